"""all_reduce_many: values, infos, a lost member in the middle, errors with what is committed, threads."""

from __future__ import annotations

import threading

import hawser
import numpy as np
import pytest

COUNTS = (3, 70000, 1, 0, 9000)


def tensors_of(rank: int) -> list[np.ndarray]:
    """Small whole numbers, another power of ten for each rank, so that every sum is exact and says who is in it."""
    return [10.0**rank * (1 + np.arange(count, dtype=np.float32) % 7) for count in COUNTS]


def sums_of(*ranks: int) -> list[np.ndarray]:
    return [sum(tensors) for tensors in zip(*(tensors_of(rank) for rank in ranks))]


def test_values_and_infos(run_peers):
    def peer(comm):
        tensors = tensors_of(comm.rank)
        results, info = comm.all_reduce_many(tensors, "sum", in_flight=2)
        assert all(result is tensor for result, tensor in zip(results, tensors))
        given = tensors_of(comm.rank)
        outs = [np.zeros_like(tensor) for tensor in given]
        other, other_info = comm.all_reduce_many(iter(given), "sum", out=outs, uniform=True, tag=3, timeout=20)
        assert all(result is out for result, out in zip(other, outs))
        for tensor, before in zip(given, tensors_of(comm.rank)):
            np.testing.assert_array_equal(tensor, before)
        return results, other, info, other_info

    for results, other, *infos in run_peers(3, peer):
        for result, out, wanted in zip(results, other, sums_of(0, 1, 2)):
            np.testing.assert_array_equal(result, wanted)
            np.testing.assert_array_equal(out, wanted)
        for info in infos:
            assert info.uniform and info.participants == 3 and info.rounds == 1 and info.first_failed is None
            assert info.items_committed == len(info.items) == len(COUNTS) and info.items_rerun == 0
            assert all(item.status == "OK" and item.runs == 1 and item.participants == 3 for item in info.items)
            assert all(len(item.participant_ids) == 3 and item.weights == (1, 1, 1) for item in info.items)
            assert info.bytes_sent > 0 and info.bytes_received > 0 and info.seconds > 0


def test_compression_for_all_and_for_each(run_peers):
    def peer(comm):
        first, second = np.full(5000, comm.rank + 1.0, np.float32), np.full(300, comm.rank * 2.0, np.float32)
        comm.all_reduce_many([first, second], compression="int8")
        with hawser.Residual(5000) as residual:
            int4 = hawser.Compression("int4", residual=residual)
            comm.all_reduce_many([first, second], compression=[int4, None], weight=comm.rank + 1)
        return first, second

    for first, second in run_peers(2, peer):
        np.testing.assert_allclose(first, 1.5, rtol=0.02)
        np.testing.assert_allclose(second, 1.0, rtol=0.02)


@pytest.mark.parametrize("uniform", [False, True])
def test_a_member_lost_in_the_middle(run_peers, uniform):
    lost_after = 2  # tensors, which the lost one reduces one by one

    def peer(comm):
        rank = comm.rank
        comm.barrier()
        tensors = tensors_of(rank)
        if rank == 1:
            for tensor in tensors[:lost_after]:
                comm.all_reduce_many([tensor], "sum", uniform=uniform)
            comm.abort()
            return None
        return comm.all_reduce_many(tensors, "sum", in_flight=1, uniform=uniform)

    results = run_peers(3, peer)
    for tensors, info in (results[0], results[2]):
        assert info.uniform is uniform
        assert (info.rounds, info.items_rerun) == ((2, lost_after) if uniform else (1, 0))
        for index, (tensor, left, all_three) in enumerate(zip(tensors, sums_of(0, 2), sums_of(0, 1, 2))):
            whole = index < lost_after and not uniform
            np.testing.assert_array_equal(tensor, all_three if whole else left)
            assert info.items[index].participants == (3 if whole else 2)


@pytest.mark.parametrize("uniform", [False, True])
def test_an_error_says_what_is_committed(run_peers, uniform):
    def peer(comm):
        tensors = tensors_of(comm.rank)
        if comm.rank == 1:
            tensors[1] = tensors[1][:-1].copy()
        before = [tensor.copy() for tensor in tensors]
        with pytest.raises(hawser.UsageError, match="70000") as raised:
            comm.all_reduce_many(tensors, "sum", uniform=uniform)
        info = raised.value.info
        assert info is not None and raised.value.name == "MISMATCH"
        assert info.first_failed == 1 and info.items[1].status == "MISMATCH" and not info.uniform
        assert info.items_committed == (0 if uniform else len(COUNTS) - 1)
        for tensor, old, item in zip(tensors, before, info.items):
            if item.status != "OK":
                np.testing.assert_array_equal(tensor, old)
        comm.barrier()

    run_peers(2, peer)


def test_arguments(solo):
    assert solo.all_reduce_many([])[1].uniform
    x = np.zeros(4, np.float32)
    with pytest.raises(hawser.ArgumentValueError, match=r"tensors\[1\]: not C-contiguous") as raised:
        solo.all_reduce_many([x, np.zeros((4, 4), np.float32)[:, 1]])
    assert raised.value.info is None
    with pytest.raises(hawser.ArgumentValueError, match="out: 0 tensors for 1"):
        solo.all_reduce_many([x], out=[])
    with pytest.raises(hawser.ArgumentValueError, match="compression: 2 of them for 1"):
        solo.all_reduce_many([x], compression=["int8", None])
    with pytest.raises(hawser.ArgumentValueError, match=r"items\[0\] and items\[1\] overlap") as raised:
        solo.all_reduce_many([x, x])
    assert raised.value.info is None
    with pytest.raises(hawser.ArgumentValueError, match="in_flight"):
        solo.all_reduce_many([x], in_flight=0)


def test_the_gil_is_free_meanwhile(run_peers):
    entered = threading.Event()

    def peer(comm):
        if comm.rank == 0:
            entered.wait(20)  # set by a thread of Python while the other one waits in the library
        else:
            threading.Timer(0.05, entered.set).start()
        return comm.all_reduce_many([np.ones(10)], "sum")[0][0][0]

    assert run_peers(2, peer) == [2, 2]
