"""hawser.SharedState: what decides, what travels, what is an error, and that errors change nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import hawser
import numpy as np
import pytest
from conftest import PATIENCE


def tensors(seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "weights": rng.standard_normal((300, 500)),  # more than one block
        "half": rng.standard_normal(7).astype(np.float16),
        "counts": rng.integers(0, 100, (2, 3)),
        "mask": rng.integers(0, 2, 11).astype(np.uint8),
        "scalar": np.asarray(rng.standard_normal()),
        "empty": np.zeros((0, 4), np.float32),
    }


def content(state: dict[str, np.ndarray]) -> list[bytes]:
    return [values.tobytes() for values in state.values()]


def test_equal_content_moves_nothing(run_peers):
    def peer(comm):
        with hawser.SharedState(tensors(), revision=7) as state:
            info = state.sync(comm)
            assert (info.decision, info.participants, info.attempts) == ("unanimous", 3, 1)
            assert (info.tensors_changed, info.blocks_received, info.behind) == (0, 0, 0)
            assert info.revision == state.revision == 7
            checked = state.check(comm)
            assert checked.root == info.root and len(info.root) == 32 and checked.behind == 0
            return info.root

    assert len(set(run_peers(3, peer))) == 1


def test_the_majority_decides_and_only_what_differs_travels(run_peers):
    def peer(comm):
        mine = tensors()
        if comm.rank == 1:
            mine["weights"][200, 3] = 9.0
            mine["half"][2] = 5.0
        with hawser.SharedState(mine) as state:
            info = state.sync(comm)
        assert info.decision == "majority" and info.behind == 1
        assert content(mine) == content(tensors())
        return info

    infos = run_peers(3, peer)
    assert [info.tensors_changed for info in infos] == [0, 2, 0]
    # Of five blocks of weights one differs.
    assert 0 < infos[1].bytes_received < 2 * 256 * 1024 + 4096
    assert infos[0].bytes_received == infos[2].bytes_received == 0
    assert sum(info.bytes_sent for info in infos) == infos[1].bytes_received


def test_the_record_decides_when_most_have_changed(run_peers):
    def peer(comm):
        mine = tensors()
        with hawser.SharedState(mine) as state:
            state.sync(comm)
            if comm.rank != 0:  # both in their own way: what was agreed on is with rank 0 alone
                mine["weights"] += comm.rank
            info = state.sync(comm)
        assert info.decision == "record" and content(mine) == content(tensors())

    run_peers(3, peer)


def test_a_new_revision_goes_by_majority(run_peers):
    def peer(comm):
        mine = tensors()
        with hawser.SharedState(mine) as state:
            state.sync(comm)
            if comm.rank != 0:
                mine["weights"] += 1
                state.revision = 5
            info = state.sync(comm)
            assert (info.revision, state.revision) == (5, 5)
        return content(mine)

    first, second, third = run_peers(3, peer)
    assert first == second == third != content(tensors())


def test_a_tie_is_an_error_and_changes_nothing(run_peers):
    def peer(comm):
        mine = tensors(comm.rank)
        with hawser.SharedState(mine) as state, pytest.raises(hawser.UsageError) as caught:
            state.sync(comm)
        assert caught.value.name == "NO_MAJORITY" and content(mine) == content(tensors(comm.rank))
        return comm.all_reduce(np.ones(1), "sum").tolist()

    assert run_peers(2, peer) == [[2.0]] * 2


def test_check_names_who_differs(run_peers):
    def peer(comm):
        mine = tensors()
        with hawser.SharedState(mine) as state:
            state.check(comm)
            if comm.rank == 1:
                mine["half"][0] += 1
            before = content(mine)
            with pytest.raises(hawser.InternalError) as caught:
                state.check(comm)
            assert caught.value.name == "DIVERGED" and content(mine) == before
            return str(caught.value), comm.members[1].name

    for sentence, name in run_peers(3, peer):
        assert name in sentence


def test_send_only_and_receive_only(run_peers):
    def peer(comm):
        mine = tensors(1 if comm.rank == 0 else 2)
        with hawser.SharedState(mine) as state:
            # The two that receive have no vote, though they are more.
            state.sync(comm, "send_only" if comm.rank == 0 else "receive_only")
        return content(mine)

    assert run_peers(3, peer) == [content(tensors(1))] * 3


def test_what_may_not_be_written_is_not(run_peers):
    def peer(comm):
        mine = tensors(2 if comm.rank == 1 else 1)
        with hawser.SharedState(mine) as state, pytest.raises(hawser.UsageError) as caught:
            state.sync(comm, "send_only" if comm.rank == 1 else "agree")
        assert caught.value.name == "MISMATCH"
        return content(mine)

    one, two = content(tensors(1)), content(tensors(2))
    assert run_peers(3, peer) == [one, two, one]


@pytest.mark.parametrize("different", ["name", "dtype", "shape", "more", "order"])
def test_layouts_that_differ_are_named(run_peers, different):
    def peer(comm):
        mine = {"alpha": np.zeros(4, np.float32), "beta": np.zeros(4, np.float32)}
        if comm.rank == 1:
            mine = {
                "name": {"alpha": mine["alpha"], "gamma": mine["beta"]},
                "dtype": {"alpha": mine["alpha"], "beta": np.zeros(4)},
                "shape": {"alpha": mine["alpha"], "beta": np.zeros(5, np.float32)},
                "more": {**mine, "delta": np.zeros(1)},
                "order": {"beta": mine["beta"], "alpha": mine["alpha"]},
            }[different]
        with hawser.SharedState(mine) as state, pytest.raises(hawser.UsageError) as caught:
            state.sync(comm)
        assert caught.value.name == "MISMATCH"
        return str(caught.value)

    named = {"name": "beta", "dtype": "beta", "shape": "beta", "more": "delta", "order": "alpha"}[different]
    first, second = run_peers(2, peer)
    assert first == second and named in first


def test_a_newcomer_takes_over(coordinator):
    founded = threading.Event()
    done = threading.Barrier(2)

    def veteran():
        with hawser.connect(coordinator, op_timeout=PATIENCE) as comm:
            mine = tensors()
            with hawser.SharedState(mine, revision=3) as state:
                state.sync(comm)
                founded.set()
                while comm.size == 1:
                    comm.admit()
                info = state.sync(comm)
            done.wait(PATIENCE)
            return info, content(mine)

    def newcomer():
        founded.wait(PATIENCE)
        with hawser.connect(coordinator, op_timeout=PATIENCE, join_timeout=PATIENCE) as comm:
            comm.admit()
            mine = tensors(2)
            with hawser.SharedState(mine, revision=99) as state:
                info = state.sync(comm)
                assert state.revision == 3
            done.wait(PATIENCE)
            return info, content(mine)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(veteran), pool.submit(newcomer)]
        (old, theirs), (new, mine) = (future.result(PATIENCE) for future in futures)
    assert mine == theirs == content(tensors())
    assert old.decision == new.decision == "unanimous"  # of those with a vote
    assert old.behind == new.behind == 1
    assert (old.sources, new.sources, old.bytes_sent) == (0, 1, new.bytes_received)


def test_a_world_of_one(solo):
    mine = tensors()
    with hawser.SharedState(mine) as state:
        info = state.sync(solo)
        assert (info.participants, info.tensors_changed, info.bytes_sent) == (1, 0, 0)
        mine["weights"] += 1
        state.sync(solo)
    assert content(mine) != content(tensors())


def test_tensors_of_torch(run_peers):
    torch = pytest.importorskip("torch")

    def peer(comm):
        torch.manual_seed(comm.rank)
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).to(torch.bfloat16)
        version = model[0].weight._version
        with hawser.SharedState(model.state_dict()) as state:
            state.sync(comm, "agree" if comm.rank == 0 else "receive_only")
        assert comm.rank == 0 or model[0].weight._version > version
        return [(name, values.tolist()) for name, values in model.state_dict().items()]

    first, second = run_peers(2, peer)
    assert first == second


def test_a_tensor_that_moved(run_peers):
    def peer(comm):
        old, new = np.zeros(4), np.full(4, 7.0)
        with hawser.SharedState({"x": old}) as state:
            state.move("x", new)
            if comm.rank == 1:
                new += 1
            state.sync(comm, "agree" if comm.rank == 0 else "receive_only")
            with pytest.raises(ValueError, match="x: was f64 of shape"):
                state.move("x", np.zeros(5))
            with pytest.raises(ValueError, match="no tensor 'y'; there are x"):
                state.move("y", new)
        return old.tolist(), new.tolist()

    assert run_peers(2, peer) == [([0.0] * 4, [7.0] * 4)] * 2


def test_wrong_use(solo):
    with pytest.raises(TypeError, match="name 3 is not a string"):
        hawser.SharedState({3: np.zeros(1)})
    with pytest.raises(ValueError, match=r"tensors\['x'\]: not C-contiguous"):
        hawser.SharedState({"x": np.zeros((3, 3))[:, 1]})
    with pytest.raises(hawser.UsageError):
        hawser.SharedState({"": np.zeros(1)})
    with pytest.raises(hawser.UsageError):
        hawser.SharedState([("x", np.zeros(1)), ("x", np.zeros(1))])
    with pytest.raises(ValueError, match="revision"):
        hawser.SharedState({"x": np.zeros(1)}, revision=-1)
    with hawser.SharedState({"x": np.zeros(1)}) as state:
        with pytest.raises(ValueError, match="strategy"):
            state.sync(solo, "majority")
        with pytest.raises(ValueError, match="timeout"):
            state.sync(solo, timeout=0)
    with pytest.raises(hawser.UsageError):
        state.sync(solo)  # closed
