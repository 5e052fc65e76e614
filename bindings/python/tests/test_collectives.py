"""all_reduce, broadcast and barrier on every kind of tensor, against NumPy; views, metrics, admission, lost peers."""

from __future__ import annotations

import array
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import hawser
import numpy as np
import pytest
from conftest import PATIENCE

INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
FLOATS = ["f2", "f4", "f8"]
OPS = ["sum", "avg", "prod", "min", "max"]


def values_of(rank: int, dtype: str, count: int) -> np.ndarray:
    """Small whole numbers, so that every dtype holds every sum and product of three exactly; negative where
    possible.
    """
    values = np.arange(count) % 5 + rank + 1
    if np.dtype(dtype).kind != "u":
        values = values * (-1) ** (np.arange(count) + rank)
    return values.astype(dtype)


def expected(inputs: list[np.ndarray], op: str) -> np.ndarray:
    dtype = inputs[0].dtype
    wide = [values.astype("f8" if dtype.kind == "f" else "i8") for values in inputs]
    if op == "avg":
        total = sum(wide)
        if dtype.kind == "f":
            return (total / len(wide)).astype(dtype)
        return (np.sign(total) * (abs(total) // len(wide))).astype(dtype)
    function = {"sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum}[op]
    return reduce(function, wide).astype(dtype)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_all_reduce_of_every_op(run_peers, dtype):
    sizes = [0, 1, 2, 1000, 65537]  # empty, fewer than members, not divisible, more than one chunk

    def peer(comm):
        results = {}
        for op, count in itertools.product(OPS, sizes):
            x = values_of(comm.rank, dtype, count)
            assert comm.all_reduce(x, op) is x
            results[op, count] = x
        return results

    results = run_peers(3, peer)
    for op, count in itertools.product(OPS, sizes):
        want = expected([values_of(rank, dtype, count) for rank in range(3)], op)
        for of_rank in results:
            if dtype in FLOATS:
                np.testing.assert_allclose(of_rank[op, count], want, rtol=2e-3 if dtype == "f2" else 1e-6)
            else:
                np.testing.assert_array_equal(of_rank[op, count], want)
            assert of_rank[op, count].tobytes() == results[0][op, count].tobytes()


def test_out_takes_the_result_and_x_stays(run_peers):
    def peer(comm):
        x, out = np.full((3, 4), comm.rank + 1.0), np.zeros((3, 4))
        assert comm.all_reduce(x, "sum", out) is out
        assert comm.all_reduce(x, "sum", out=x) is x
        return x, out

    for x, out in run_peers(2, peer):
        assert (out == 3).all() and (x == 3).all()


def test_x_may_be_read_only_when_there_is_an_out(solo):
    x = np.arange(4.0)
    x.flags.writeable = False
    assert solo.all_reduce(x, "sum", np.zeros(4)).tolist() == [0, 1, 2, 3]
    out = bytearray(3)
    assert solo.all_reduce(b"abc", "max", out) is out
    assert out == b"abc"


def test_shapes_without_axes_and_with_many(run_peers):
    def peer(comm):
        scalar, many = np.array(comm.rank + 1.0), np.full((2, 1, 3, 0, 5), 1.0)
        comm.all_reduce(many)
        return comm.all_reduce(scalar, "sum").item()

    assert run_peers(2, peer) == [3.0, 3.0]


def test_buffer_protocol_objects(run_peers):
    def peer(comm):
        number = comm.rank + 1
        samples = [
            bytearray([number] * 4),
            array.array("h", [number] * 4),
            memoryview(array.array("d", [number] * 4)),
            (memoryview(bytearray([number] * 4)).cast("B", (2, 2))),
        ]
        for sample in samples:
            assert comm.all_reduce(sample, "sum") is sample
        return [memoryview(sample).tolist() for sample in samples]

    for result in run_peers(2, peer):
        assert result == [[3] * 4, [3] * 4, [3.0] * 4, [[3, 3], [3, 3]]]


class DlpackOnly:
    """An array of which nothing but DLPack shows."""

    def __init__(self, values: np.ndarray, versioned: bool) -> None:
        self.values = values
        self.versioned = versioned

    def __dlpack__(self, **options: object) -> object:
        if options and not self.versioned:
            raise TypeError("no keywords before version 1")
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()


@pytest.mark.parametrize("versioned", [False, True])
def test_dlpack_objects(run_peers, versioned):
    def peer(comm):
        sample = DlpackOnly(np.full((2, 3), comm.rank + 1, np.int16), versioned)
        assert comm.all_reduce(sample, "sum") is sample
        return sample.values.tolist()

    assert run_peers(2, peer) == [[[3] * 3] * 2] * 2


def test_bfloat16_of_ml_dtypes(run_peers):
    ml_dtypes = pytest.importorskip("ml_dtypes")

    def peer(comm):
        x = np.full(5, comm.rank + 1.5, ml_dtypes.bfloat16)
        return comm.all_reduce(x, "sum").astype(float).tolist()

    assert run_peers(2, peer) == [[4.0] * 5] * 2


TORCH_DTYPES = ["uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_torch_tensors(run_peers, dtype):
    torch = pytest.importorskip("torch")

    def peer(comm):
        x = torch.full((7, 3), comm.rank + 1, dtype=getattr(torch, dtype))
        assert comm.all_reduce(x, "sum") is x
        out = torch.empty_like(x)
        assert comm.broadcast(x, 1, out) is out
        return x.tolist(), out.tolist()

    for result in run_peers(2, peer):
        assert result == ([[3] * 3] * 7,) * 2


def test_torch_parameters_by_their_data(run_peers):
    torch = pytest.importorskip("torch")

    def peer(comm):
        layer = torch.nn.Linear(3, 2)
        for parameter in layer.parameters():
            comm.broadcast(parameter.data)
            comm.all_reduce(parameter.detach(), "avg")
        return [parameter.tolist() for parameter in layer.parameters()]

    first, second = run_peers(2, peer)
    assert first == second


def test_autograd_notices_that_a_tensor_was_changed(solo):
    torch = pytest.importorskip("torch")
    weight = torch.ones(3, requires_grad=True)
    saved = torch.ones(3)
    loss = (weight * saved).sum()
    solo.all_reduce(saved)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("root", [0, 2])
def test_broadcast(run_peers, root):
    def peer(comm):
        at_root = comm.rank == root
        x = np.full(100_001, comm.rank, np.int32)
        assert comm.broadcast(x, root) is x
        out = np.zeros(5)
        comm.broadcast(np.full(5, 7.0) if at_root else None, root, out)
        return set(x.tolist()), out.tolist()

    for result in run_peers(3, peer):
        assert result == ({root}, [7.0] * 5)


def test_barrier_waits_for_everyone(run_peers):
    entered = []

    def peer(comm):
        if comm.rank == 1:
            entered.append(comm.rank)
        comm.barrier()
        seen = list(entered)
        _, info = comm.barrier(return_info=True)
        return seen, info.participants

    assert run_peers(2, peer) == [([1], 2)] * 2


def test_info_tells_how_it_went(run_peers):
    def peer(comm):
        _, info = comm.all_reduce(np.zeros(1000, "f4"), return_info=True)
        return info, comm.view, [member.id for member in comm.members]

    for info, view, ids in run_peers(3, peer):
        assert (info.view, info.participants, info.attempts) == (view.number, 3, 1)
        assert list(info.participant_ids) == ids
        assert info.bytes_sent > 0 and info.bytes_received > 0 and 0 < info.seconds < PATIENCE


def test_members_and_view_agree_everywhere(run_peers):
    def peer(comm):
        assert comm.size == 3 and comm.view == hawser.View(comm.view.number, comm.rank, 3)
        assert comm.members[comm.rank].name.startswith("peer-")
        comm.barrier()
        return comm.view.number, comm.members

    results = run_peers(3, peer)
    assert results[0] == results[1] == results[2]
    members = results[0][1]
    assert {member.name for member in members} == {"peer-0", "peer-1", "peer-2"}
    assert all(len(member.id) == 32 and ":" in member.address for member in members)


def test_metrics_count(run_peers):
    def peer(comm):
        before = comm.metrics()
        for _ in range(3):
            comm.all_reduce(np.zeros(10))
        return before, comm.metrics()

    for before, after in run_peers(2, peer):
        assert after.ops_committed - before.ops_committed == 3
        assert after.bytes_sent > before.bytes_sent and after.views >= 1 and after.ops_open == 0
        assert (after.frames_resent, after.slow_rank, after.slow_ms, after.bytes_relayed) == (0, -1, 0, 0)
        assert after.strands_shared > 0


def test_straggler_ms_is_a_setting_of_the_communicator(run_peers):
    def peer(comm):
        return comm.all_reduce(np.ones(3), "sum").tolist()

    assert run_peers(2, peer, straggler_ms=20_000) == [[2.0, 2.0, 2.0]] * 2
    with pytest.raises((TypeError, ValueError), match="straggler_ms"):
        hawser.connect("127.0.0.1:1", straggler_ms=-1)


def test_tags_match_operations_of_several_threads(run_peers):
    tags = range(1, 65)

    def peer(comm):
        order = list(tags) if comm.rank == 0 else list(reversed(tags))
        arrays = {tag: np.full(1000, tag * (comm.rank + 1), np.int64) for tag in tags}
        with ThreadPoolExecutor(4) as pool:
            works = list(pool.map(lambda tag: comm.all_reduce(arrays[tag], "sum", tag=tag, async_op=True), order))
        for work in works:
            work.wait()
        return all((arrays[tag] == 3 * tag).all() for tag in tags)

    assert run_peers(2, peer) == [True, True]


def test_mismatch_is_told_to_all_and_the_next_call_works(run_peers):
    def peer(comm):
        x = np.full(10 + comm.rank, 1.0)
        with pytest.raises(hawser.UsageError) as caught:
            comm.all_reduce(x, "sum")
        assert caught.value.name == "MISMATCH" and (x == 1).all()
        return comm.all_reduce(np.ones(3), "sum").tolist()

    assert run_peers(2, peer) == [[2.0] * 3] * 2


def test_too_few_participants(run_peers):
    def peer(comm):
        x = np.ones(3)
        with pytest.raises(hawser.RetryError) as caught:
            comm.all_reduce(x, "sum", min_participants=3)
        assert caught.value.name == "TOO_FEW"
        return x.tolist()

    assert run_peers(2, peer) == [[1.0] * 3] * 2


def test_lost_peer_costs_a_retry(run_peers):
    ready = threading.Barrier(3)

    def peer(comm):
        ready.wait(PATIENCE)
        if comm.rank == 2:
            comm.abort()
            return None
        x = np.full(1000, comm.rank + 1.0)
        _, info = comm.all_reduce(x, "avg", return_info=True)
        return x.tolist(), info.participants, comm.size

    results = run_peers(3, peer)
    assert results[0] == results[1] == ([1.5] * 1000, 2, 2)


def test_strict_policy_reports_the_lost_peer_and_the_next_call_works(run_peers):
    ready = threading.Barrier(3)

    def peer(comm):
        x = np.full(1000, comm.rank + 1.0)
        if comm.rank == 2:
            ready.wait(PATIENCE)
            comm.abort()
            return None
        work = comm.all_reduce(x, "sum", policy="strict", async_op=True)
        ready.wait(PATIENCE)
        with pytest.raises(hawser.PeerLostError) as caught:
            work.wait()
        assert caught.value.name == "PEER_LOST"
        assert (x == comm.rank + 1).all() and comm.size == 2
        return comm.all_reduce(x, "sum", policy="strict").tolist()

    results = run_peers(3, peer)
    assert results[0] == results[1] == [3.0] * 1000


def test_newcomer_is_let_in_at_an_admission_point(coordinator):
    founded = threading.Event()
    done = threading.Barrier(2)

    def veteran():
        with hawser.connect(coordinator, name="veteran", op_timeout=PATIENCE) as comm:
            founded.set()
            before = comm.view
            while comm.size == 1:
                comm.admit()
            comm.broadcast(np.full(4, 7.0), root=0)
            seen = before, comm.view, [member.name for member in comm.members]
            done.wait(PATIENCE)
            return seen

    def newcomer():
        founded.wait(PATIENCE)
        with hawser.connect(coordinator, name="newcomer", op_timeout=PATIENCE, join_timeout=PATIENCE) as comm:
            comm.admit()  # the point where it was let in: a loop that begins with this call serves both
            seen = comm.broadcast(np.zeros(4), root=0).tolist(), comm.view
            done.wait(PATIENCE)
            return seen

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(veteran), pool.submit(newcomer)
        before, after, names = first.result(PATIENCE)
        weights, view = second.result(PATIENCE)
    assert weights == [7.0] * 4
    assert (before.size, after.size, names) == (1, 2, ["veteran", "newcomer"])
    assert (view.number, view.rank, view.size) == (after.number, 1, 2)


def test_groups_do_not_see_each_other(coordinator):
    with hawser.connect(coordinator, group=1) as one, hawser.connect(coordinator, group=2) as two:
        assert one.size == two.size == 1
        assert one.all_reduce(np.ones(2), "sum").tolist() == two.all_reduce(np.ones(2), "sum").tolist() == [1, 1]


def test_leave_loses_nothing(run_peers):
    def peer(comm):
        comm.barrier()
        if comm.rank == 1:
            comm.leave()
            with pytest.raises(hawser.MembershipError):
                comm.barrier()
            return None
        comm.all_reduce(np.ones(3))
        return comm.metrics().peers_lost

    assert run_peers(2, peer) == [0, None]
