"""hawser.DiLoCo over NumPy arrays: the formulas, halves and delays, weights, values that are not finite, newcomers, and
every wrong use that shall be an error with a sentence. What training makes of it is in test_testbed.py."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import hawser
import numpy as np
import pytest
import testbed
from conftest import PATIENCE

SHAPES = {"weight": (30, 7), "bias": (7,), "scalar": (), "empty": (0, 3)}


def start() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def train(params: dict[str, np.ndarray], rank: int, number: int) -> None:
    """What inner steps do: members move apart."""
    rng = np.random.default_rng((rank, number))
    for values in params.values():
        values -= 0.1 * rng.standard_normal(values.shape).astype(np.float32)


def bits(outer: hawser.DiLoCo, params: dict[str, np.ndarray]) -> list[bytes]:
    """Parameters, anchor and momentum."""
    return [
        part.tobytes()
        for name, values in params.items()
        for part in (values, outer.anchor(name), outer.momentum_of(name))
    ]


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_formula(run_peers, nesterov, momentum):
    rounds = 4

    def peer(comm):
        params, seen = start(), []
        with hawser.DiLoCo(comm, params, lr=0.5, momentum=momentum, nesterov=nesterov) as outer:
            outer.sync()
            for number in range(rounds):
                train(params, comm.rank, number)
                info = outer.step()
                assert (info.round, info.participants, info.contributors, info.left_out) == (number + 1, 3, 3, 0)
                assert (info.attempts, info.self_left_out, info.synced) == (1, False, False)
                assert info.total_weight == 3 and info.delta_norm > 0 and info.bytes_sent > 0
                assert outer.round == number + 1
                seen.append(bits(outer, params))
                for name, values in params.items():
                    assert values.tobytes() == outer.anchor(name).tobytes()
        return seen, params

    results = run_peers(3, peer)
    assert results[0][0] == results[1][0] == results[2][0]
    anchor = {name: values.astype(float) for name, values in start().items()}
    velocity = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for number in range(rounds):
        members = [{name: np.array(values, np.float32) for name, values in anchor.items()} for _ in range(3)]
        for rank, params in enumerate(members):
            train(params, rank, number)
        for name in SHAPES:
            d = np.mean([anchor[name] - params[name] for params in members], axis=0)
            velocity[name] = momentum * velocity[name] + d
            anchor[name] = anchor[name] - 0.5 * (d + momentum * velocity[name] if nesterov else velocity[name])
    for name in SHAPES:
        np.testing.assert_allclose(results[0][1][name], anchor[name], rtol=1e-4, atol=1e-5)


def test_delayed_applies_each_average_one_round_later(run_peers):
    rounds = 4

    def peer(comm):
        params, seen = {"x": np.zeros(5, np.float32)}, []
        with hawser.DiLoCo(comm, params, lr=0.5, momentum=0.5, delayed=True) as outer:
            outer.sync()
            for number in range(rounds):
                params["x"] -= (number + 1) * (comm.rank + 1)  # on average 1.5 times the number
                info = outer.step()
                assert info.round == number and (info.view == 0) == (number == 0)
                assert info.participants == (2 if number else 0)
                seen.append(float(params["x"][0]))
                if number % 2:
                    outer.anchor("x")  # a look waits for the average, which the next step then tells of
            info = outer.finish()
            assert info.round == rounds
            seen.append(float(params["x"][0]))
            outer.finish()  # nothing is in flight: nothing happens
            assert float(params["x"][0]) == seen[-1] and outer.round == rounds
        return seen

    results = run_peers(2, peer)
    reference = testbed.Outer(np.zeros(1, np.float32), 0.5, 0.5, delayed=True)
    want = []
    for number in range(rounds):
        reference.step(reference.anchor - np.array([[1.5 * (number + 1)]], np.float32))
        want.append(float(reference.anchor[0]))
    reference.finish()
    want.append(float(reference.anchor[0]))
    assert want[0] == 0
    assert results[0] == results[1] == pytest.approx(want)


def test_delayed_rounds_do_not_wait_for_the_others(run_peers):
    """A member is up to one round ahead: its average travels while it, and the other, go on computing."""
    ahead = threading.Event()

    def peer(comm):
        x = np.zeros(100_000, np.float32)
        with hawser.DiLoCo(comm, [x], lr=1.0, momentum=0.0, delayed=True) as outer:
            outer.sync()
            x -= comm.rank
            if comm.rank == 1:
                assert ahead.wait(PATIENCE)
            outer.step()
            ahead.set()  # by rank 0, which would still be in step() if that waited for rank 1
            info = outer.finish()
            assert (info.round, info.participants) == (1, 2)
        return set(x.tolist())

    assert run_peers(2, peer) == [{-0.5}] * 2


def test_begin_takes_a_copy_and_finish_sets_the_parameters(run_peers):
    def peer(comm):
        x = np.zeros(1000, np.float32)
        with hawser.DiLoCo(comm, [x], lr=1.0, momentum=0.0) as outer:
            outer.sync()
            x -= comm.rank + 1
            outer.begin()
            x += 1000  # what is trained on while the average is made counts for nothing
            info = outer.finish()
            assert outer.names == ("0",) and info.round == 1
        return x.tolist()

    assert run_peers(2, peer) == [[-1.5] * 1000] * 2


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_parameters_of_half_the_width(run_peers, name):
    dtype = np.dtype(name) if name == "float16" else pytest.importorskip("ml_dtypes").bfloat16

    def peer(comm):
        x = np.ones(100).astype(dtype)
        with hawser.DiLoCo(comm, {"x": x}, lr=0.001, momentum=0.0) as outer:
            outer.sync()
            for _ in range(10):
                x += np.asarray(0.5 * (comm.rank + 1)).astype(dtype)
                outer.step()
            return x.astype(float), outer.anchor("x")

    for x, anchor in run_peers(2, peer):
        # Steps that the parameter's type is too coarse for add up in the anchor.
        np.testing.assert_allclose(anchor, 1 + 10 * 0.001 * 0.75, rtol=2e-3)
        assert x.tolist() == anchor.astype(dtype).astype(float).tolist()


def test_weights(run_peers):
    def peer(comm):
        x = np.zeros(10, np.float32)
        with hawser.DiLoCo(comm, [x], lr=1.0, momentum=0.0) as outer:
            outer.sync()
            x += comm.rank
            info = outer.step(weight=[0, 10, 30][comm.rank])
            assert (info.contributors, info.total_weight) == (2, 40)
        return x.tolist()

    np.testing.assert_allclose(run_peers(3, peer), [[(10 * 1 + 30 * 2) / 40] * 10] * 3, rtol=1e-6)


@pytest.mark.parametrize("compression", [None, "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_member_with_nan_is_left_out(run_peers, compression, value):
    def peer(comm):
        x = np.zeros(1000, np.float32)
        with hawser.DiLoCo(comm, [x], lr=1.0, momentum=0.0, compression=compression) as outer:
            outer.sync()
            x += comm.rank + 1
            if comm.rank == 1:
                x[700] = value
            info = outer.step()
            assert (info.contributors, info.left_out, info.self_left_out) == (2, 1, comm.rank == 1)
            assert np.isnan(info.delta_norm) == (comm.rank == 1)
            assert outer.round == 1
        return x

    for x in run_peers(3, peer):
        np.testing.assert_allclose(x, 2.0, rtol=1e-2)


def test_a_member_with_nan_fails_the_round_when_asked(run_peers):
    def peer(comm):
        x = np.zeros(10, np.float32)
        with hawser.DiLoCo(comm, [x], lr=1.0, momentum=0.0, on_non_finite="fail") as outer:
            outer.sync()
            x += comm.rank + 1
            if comm.rank == 1:
                x[7] = np.nan
            before = x.tobytes()
            with pytest.raises(hawser.UsageError) as caught:
                outer.step()
            assert caught.value.name == "NOT_FINITE"
            assert x.tobytes() == before and outer.round == 0 and not outer.anchor("0").any()
            x[7] = comm.rank + 1
            outer.step()  # the round is tried again
        return x.tolist()

    assert run_peers(2, peer) == [[1.5] * 10] * 2


@pytest.mark.parametrize("compression", ["int8", hawser.Compression("int4", block=32, rounding="stochastic", seed=3)])
@pytest.mark.parametrize("error_feedback", [False, True])
def test_compressed_rounds_have_the_same_bits(run_peers, compression, error_feedback):
    def peer(comm):
        params = start()
        with hawser.DiLoCo(comm, params, compression=compression, error_feedback=error_feedback) as outer:
            outer.sync()
            for number in range(5):
                train(params, comm.rank, number)
                outer.step()
            return bits(outer, params)

    results = run_peers(3, peer)
    assert results[0] == results[1] == results[2]


def test_the_first_members_parameters_are_everyones(run_peers):
    def peer(comm):
        x = np.full(10, comm.rank + 5.0, np.float32)
        with hawser.DiLoCo(comm, {"x": x}) as outer:
            info = outer.sync()
            assert info.participants == 3
            return x.tolist()

    assert run_peers(3, peer) == [[5.0] * 10] * 3


def test_a_world_of_one(solo):
    x = np.zeros(4, np.float32)
    with hawser.DiLoCo(solo, [x], compression="int8") as outer:
        outer.sync()
        x += 1
        info = outer.step()
        assert (info.round, info.participants) == (1, 1)
        np.testing.assert_allclose(x, 0.7 * 1.9, rtol=0.01)


def test_a_newcomer_takes_over_and_goes_on(coordinator):
    founded = threading.Event()
    done = threading.Barrier(3)

    def veteran():
        with hawser.connect(coordinator, min_size=2, op_timeout=PATIENCE, join_timeout=PATIENCE) as comm:
            params = start()
            with hawser.DiLoCo(comm, params) as outer:
                outer.sync()
                number = 0
                while comm.size == 2:
                    train(params, comm.rank, number)
                    info = outer.step()
                    number += 1
                    founded.set()
                assert info.synced
                train(params, comm.rank, number)
                assert outer.step().participants == 3
                seen = outer.round, bits(outer, params)
                done.wait(PATIENCE)
                return seen

    def newcomer():
        founded.wait(PATIENCE)
        with hawser.connect(coordinator, op_timeout=PATIENCE, join_timeout=PATIENCE) as comm:
            params = {name: np.full_like(values, 9.0) for name, values in start().items()}
            with hawser.DiLoCo(comm, params) as outer:
                info = outer.sync()
                assert outer.round > 0 and info.sources >= 1 and info.bytes_received > 0
                train(params, comm.rank, outer.round)
                assert outer.step().participants == 3
                seen = outer.round, bits(outer, params)
                done.wait(PATIENCE)
                return seen

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(veteran), pool.submit(veteran), pool.submit(newcomer)]
        first, second, third = (future.result(PATIENCE) for future in futures)
    assert first == second == third


def test_checkpoints(run_peers):
    def peer(comm, delayed):
        params = start()
        with hawser.DiLoCo(comm, params, momentum=0.5, delayed=delayed) as outer:
            outer.sync()
            for number in range(3):
                train(params, comm.rank, number)
                outer.step()
            state, values = outer.state_dict(), {name: x.copy() for name, x in params.items()}
            assert (state["pending"] is not None) == delayed
            train(params, comm.rank, 3)
            outer.step()
            want = bits(outer, params)
        fresh = {name: x.copy() for name, x in values.items()}
        with hawser.DiLoCo(comm, fresh, momentum=0.5, delayed=delayed) as outer:
            outer.load_state_dict(state)
            assert outer.round == state["round"]
            outer.sync()
            train(fresh, comm.rank, 3)
            outer.step()
            return want, bits(outer, fresh)

    for delayed in (False, True):
        for want, got in run_peers(2, lambda comm, delayed=delayed: peer(comm, delayed), group=int(delayed)):
            assert got == want


def test_checkpoints_of_something_else(solo):
    with hawser.DiLoCo(solo, start()) as outer:
        outer.sync()
        state = outer.state_dict()
        for wrong, message in (
            ({}, "state_dict"),
            ({**state, "anchor": {"weight": state["anchor"]["weight"]}}, "missing.*bias"),
            ({**state, "momentum": {**state["momentum"], "more": np.zeros(1, np.float32)}}, "unknown.*more"),
            ({**state, "anchor": {**state["anchor"], "bias": np.zeros(8, np.float32)}}, r"bias.*\(8,\)"),
        ):
            with pytest.raises(hawser.ArgumentValueError, match=message):
                outer.load_state_dict(wrong)
        with pytest.raises(TypeError, match="float32"):
            outer.load_state_dict({**state, "anchor": {**state["anchor"], "bias": np.zeros(7)}})
        np.testing.assert_array_equal(outer.anchor("bias"), state["anchor"]["bias"])


def test_a_parameter_that_moved(run_peers):
    def peer(comm):
        x, elsewhere = np.zeros(10, np.float32), np.zeros(10, np.float32)
        with hawser.DiLoCo(comm, {"x": x}, lr=1.0, momentum=0.0) as outer:
            outer.sync()
            elsewhere += 3
            outer.move("x", elsewhere)
            outer.step()
            with pytest.raises(ValueError, match="x: was f32 of shape"):
                outer.move("x", np.zeros(11, np.float32))
            with pytest.raises(ValueError, match="x: was f32 of shape"):
                outer.move("x", np.zeros(10, np.float16))
            with pytest.raises(ValueError, match="no parameter 'y'; there are x"):
                outer.move("y", x)
        return x.tolist(), elsewhere.tolist()

    assert run_peers(2, peer) == [([0.0] * 10, [3.0] * 10)] * 2


def test_halves_in_the_wrong_order(solo):
    x = np.zeros(3, np.float32)
    with hawser.DiLoCo(solo, [x]) as outer:
        outer.sync()
        with pytest.raises(hawser.UsageError):
            outer.finish()
        outer.begin()
        with pytest.raises(hawser.UsageError):
            outer.begin()
        outer.finish()
    with hawser.DiLoCo(solo, [x], delayed=True) as outer:
        outer.sync()
        with pytest.raises(hawser.UsageError):
            outer.begin()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"lr": 0.0}, "lr"),
        ({"lr": -1.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"on_non_finite": "ignore"}, "on_non_finite"),
        ({"compression": "int9"}, "compression"),
        ({"timeout": 0}, "timeout"),
        ({"tag": 0}, "tag"),
    ],
)
def test_settings_that_make_no_sense(solo, settings, what):
    with pytest.raises(ValueError, match=what):
        hawser.DiLoCo(solo, [np.zeros(3, np.float32)], **settings)


def test_parameters_that_cannot_be_used(solo):
    with pytest.raises(TypeError, match=r"params\['x'\]: elements of f64; outer steps take float32"):
        hawser.DiLoCo(solo, {"x": np.zeros(3)})
    with pytest.raises(ValueError, match="not C-contiguous"):
        hawser.DiLoCo(solo, {"x": np.zeros((4, 4), np.float32).T[1:]})
    with pytest.raises(hawser.UsageError):
        hawser.DiLoCo(solo, {})
    with pytest.raises(hawser.UsageError):
        hawser.DiLoCo(solo, {"x" * 300: np.zeros(3, np.float32)})
    with hawser.Residual(3) as residual, pytest.raises(ValueError, match="error_feedback=True"):
        hawser.DiLoCo(solo, [np.zeros(3, np.float32)], compression=hawser.Compression("int8", residual=residual))
    with hawser.DiLoCo(solo, [np.zeros(3, np.float32)]) as outer:
        outer.sync()
        for weight in (-1.0, float("nan"), float("inf")):
            with pytest.raises(hawser.UsageError):
                outer.step(weight)
        with pytest.raises(ValueError, match="no parameter 'x'"):
            outer.anchor("x")
    with pytest.raises(hawser.UsageError):
        outer.step()  # closed


@pytest.mark.parametrize(
    "different",
    [
        {"params": {"x": np.zeros(5, np.float32)}},
        {"params": {"y": np.zeros(4, np.float32)}},
        {"params": {"x": np.zeros(4, np.float16)}},
        {"params": {"x": np.zeros(4, np.float32), "y": np.zeros(1, np.float32)}},
        {"lr": 0.6},
        {"momentum": 0.5},
        {"nesterov": False},
        {"compression": "int8"},
        {"delayed": True},
    ],
    ids=lambda different: next(iter(different)),
)
def test_members_that_differ_are_told(run_peers, different):
    def peer(comm):
        settings = {"params": {"x": np.zeros(4, np.float32)}} | (different if comm.rank else {})
        with hawser.DiLoCo(comm, **settings) as outer, pytest.raises(hawser.UsageError) as caught:
            outer.sync()
            outer.step()
        assert caught.value.name == "MISMATCH"
        return comm.all_reduce(np.ones(1), "sum").tolist()  # the communicator is as good as before

    assert run_peers(2, peer) == [[2.0]] * 2


def test_a_peer_lost_in_a_round_costs_its_contribution(run_peers):
    ready = threading.Barrier(3)

    def peer(comm):
        x = np.zeros(50_000, np.float32)
        with hawser.DiLoCo(comm, [x], lr=1.0, momentum=0.0) as outer:
            outer.sync()
            x += comm.rank + 1
            ready.wait(PATIENCE)
            if comm.rank == 2:
                comm.abort()
                return None
            info = outer.step()
            assert (info.participants, outer.round) == (2, 1)
            x += 1
            outer.step()
        return set(x.tolist())

    assert run_peers(3, peer)[:2] == [{2.5}] * 2


def test_autograd_and_numpy_agree_about_memory(run_peers):
    """Tensors of torch work here too, and torch knows that they were changed."""
    torch = pytest.importorskip("torch")

    def peer(comm):
        x = torch.zeros(10)
        with hawser.DiLoCo(comm, {"x": x}, lr=1.0, momentum=0.0) as outer:
            outer.sync()
            x += comm.rank + 1
            version = x._version
            outer.step()
            assert x._version > version
        return x.tolist()

    assert run_peers(2, peer) == [[1.5] * 10] * 2
