"""Compressed and weighted averages: values, bits, bytes, residuals, and settings that peers do not share."""

from __future__ import annotations

import hawser
import numpy as np
import pytest

COUNT = 20_000

# Relative L2 error of an average of three with independent contributions, generously.
ERRORS = {"bf16": 0.005, "f16": 0.001, "int8": 0.011, "int4": 0.2, "minmax8": 0.011}
BYTES = {"bf16": 2, "f16": 2, "int8": 1 + 4 / 256, "int4": 0.5 + 4 / 64, "minmax8": 1 + 8 / 256}


def inputs(rank: int, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(rank).standard_normal(count, np.float32)


def error_of(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.mark.parametrize("codec", ERRORS)
@pytest.mark.parametrize("op", ["avg", "sum"])
def test_every_codec(run_peers, codec, op):
    def peer(comm):
        x, out = inputs(comm.rank), np.zeros(COUNT, np.float32)
        _, info = comm.all_reduce(x, op, out, compression=codec, return_info=True)
        assert x.tobytes() == inputs(comm.rank).tobytes()
        comm.all_reduce(x, op, compression=hawser.Compression(codec))  # in place, the same settings in full
        return out, x, info

    results = run_peers(3, peer)
    want = sum(inputs(rank) for rank in range(3)) / (3 if op == "avg" else 1)
    for out, x, info in results:
        assert out.tobytes() == results[0][0].tobytes() == x.tobytes()
        assert error_of(out, want) < ERRORS[codec]
        # Two thirds of the codes go to the owners, and as many of the results come back.
        assert info.bytes_sent == pytest.approx(4 / 3 * COUNT * BYTES[codec], rel=0.03)


@pytest.mark.parametrize("codec", ["bf16", "int8"])
def test_half_width_tensors_of_torch(run_peers, codec):
    torch = pytest.importorskip("torch")

    def peer(comm):
        x = torch.from_numpy(inputs(comm.rank)).to(torch.bfloat16)
        assert comm.all_reduce(x, compression=codec) is x
        return x.float().numpy()

    results = run_peers(3, peer)
    assert all(result.tobytes() == results[0].tobytes() for result in results)
    assert error_of(results[0], sum(inputs(rank) for rank in range(3)) / 3) < ERRORS[codec] + 0.005


@pytest.mark.parametrize("codec", ["int8", "int4", "bf16"])
def test_stochastic_rounding_is_right_on_average(run_peers, codec):
    def peer(comm):
        x, total = inputs(comm.rank, 2048), np.zeros(2048)
        for seed in range(200):
            out = np.zeros(2048, np.float32)
            comm.all_reduce(x, "avg", out, compression=hawser.Compression(codec, rounding="stochastic", seed=seed))
            total += out
        return total / 200

    results = run_peers(2, peer)
    assert results[0].tobytes() == results[1].tobytes()
    assert error_of(results[0], (inputs(0, 2048) + inputs(1, 2048)) / 2) < 2 * ERRORS[codec] / np.sqrt(200)


def test_seeds_give_other_roundings(run_peers):
    def peer(comm):
        outs = []
        for seed in (1, 2):
            x = inputs(comm.rank)
            outs.append(comm.all_reduce(x, compression=hawser.Compression("int4", rounding="stochastic", seed=seed)))
        return outs

    for first, second in run_peers(2, peer):
        assert (first != second).any()


def test_a_residual_brings_back_what_was_left_out(run_peers):
    rounds = 30

    def peer(comm):
        x, out = inputs(comm.rank, 4096), np.zeros(4096, np.float32)
        with hawser.Residual(4096) as residual:
            assert residual.count == 4096 and not residual.read().any()
            compression = hawser.Compression("int4", residual=residual)
            total = np.zeros(4096)
            for _ in range(rounds):
                comm.all_reduce(x, "avg", out, compression=compression)
                total += out
            return total / rounds, residual.read()

    with_feedback, residual = run_peers(2, peer)[0]
    want = (inputs(0, 4096) + inputs(1, 4096)) / 2
    assert residual.any()

    def plain(comm):
        return comm.all_reduce(inputs(comm.rank, 4096), compression="int4")

    without = run_peers(2, plain, group=1)[0]
    # What one peer's codes leave out is carried on; what the second quantization leaves out is not.
    assert error_of(with_feedback, want) < 0.8 * error_of(without, want)


def test_a_residual_changes_with_success_only(run_peers):
    def peer(comm):
        x = inputs(comm.rank, 1000)
        with hawser.Residual(1000) as residual:
            kept = np.linspace(-0.01, 0.01, 1000, dtype=np.float32)
            residual.write(kept)
            compression = hawser.Compression("int8", residual=residual)
            with pytest.raises(hawser.RetryError):
                comm.all_reduce(x, compression=compression, min_participants=3)
            assert residual.read().tobytes() == kept.tobytes()
            comm.all_reduce(x, compression=compression)
            assert residual.read().tobytes() != kept.tobytes()
            out = np.empty(1000, np.float32)
            assert residual.read(out) is out

    run_peers(2, peer)


def test_weights(run_peers):
    def peer(comm):
        x = np.full(10, comm.rank + 1.0, np.float32)
        _, info = comm.all_reduce(x, weight=comm.rank, return_info=True)  # 0, 1, 2
        return x.tolist(), info

    for values, info in run_peers(3, peer):
        np.testing.assert_allclose(values, [(0 * 1 + 1 * 2 + 2 * 3) / 3] * 10, rtol=1e-6)
        assert (info.participants, info.contributors, info.total_weight) == (3, 2, 3.0)
        assert info.weights == (0.0, 1.0, 2.0)


def test_what_has_no_weight_is_not_looked_at(run_peers):
    def peer(comm):
        x = np.full(1000, np.nan if comm.rank == 1 else 3.0, np.float32)
        comm.all_reduce(x, weight=0.0 if comm.rank == 1 else 2.0, compression="int8")
        return x

    for x in run_peers(2, peer):
        np.testing.assert_allclose(x, 3.0, rtol=1e-6)


def test_without_weights_everybody_contributes(run_peers):
    def peer(comm):
        _, info = comm.all_reduce(np.ones(3), return_info=True)
        return info.contributors, info.total_weight

    assert run_peers(2, peer) == [(2, 2.0)] * 2


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"codec": "int8", "block": 0}, "block"),
        ({"codec": "int8", "block": 100}, "block"),
        ({"codec": "int8", "block": 8192}, "block"),
        ({"codec": "bf16", "block": 64}, "block"),
        ({"codec": "int3"}, "codec"),
        ({"codec": "int8", "rounding": "up"}, "rounding"),
        ({"codec": "int8", "seed": -1}, "seed"),
        ({"codec": "int8", "residual_decay": 0.0}, "residual_decay"),
        ({"codec": "int8", "residual_decay": 1.5}, "residual_decay"),
        ({"codec": "int8", "residual_decay": float("nan")}, "residual_decay"),
    ],
)
def test_settings_that_no_codec_has(settings, what):
    with pytest.raises(ValueError, match=what) as caught:
        hawser.Compression(**settings)
    assert isinstance(caught.value, hawser.UsageError)


def test_wrong_types():
    with pytest.raises(TypeError, match="residual"):
        hawser.Compression("int8", residual=np.zeros(3))
    with pytest.raises(TypeError, match="block"):
        hawser.Compression("int8", block=64.0)
    with pytest.raises(ValueError, match="count"):
        hawser.Residual(-1)


def test_bytes_of_settings():
    assert hawser.Compression("int8").nbytes(256) == 260
    assert hawser.Compression("int4", block=32).nbytes(32) == 20
    assert hawser.Compression("bf16").nbytes(5) == 10


def test_what_cannot_be_compressed(solo):
    x = np.ones(10, np.float32)
    with pytest.raises(ValueError, match="compression"):
        solo.all_reduce(x, compression="int5")
    with pytest.raises(TypeError, match="compression"):
        solo.all_reduce(x, compression=8)
    with pytest.raises(hawser.UsageError):
        solo.all_reduce(np.ones(10), compression="int8")  # float64
    with pytest.raises(hawser.UsageError):
        solo.all_reduce(x, "max", compression="int8")
    with hawser.Residual(11) as residual, pytest.raises(hawser.UsageError):
        solo.all_reduce(x, compression=hawser.Compression("int8", residual=residual))
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(hawser.UsageError):
            solo.all_reduce(x, weight=weight)
    with pytest.raises(hawser.UsageError):
        solo.all_reduce(x, "sum", weight=1.0)
    with pytest.raises(TypeError, match="weight"):
        solo.all_reduce(x, weight="heavy")
    assert (x == 1).all()
    solo.all_reduce(x, compression="int8", weight=0.5)
    assert (x == 1).all()


def test_a_closed_residual(solo):
    residual = hawser.Residual(10)
    compression = hawser.Compression("int8", residual=residual)
    residual.close()
    residual.close()
    with pytest.raises(hawser.UsageError):
        residual.read()
    with pytest.raises(hawser.UsageError):
        solo.all_reduce(np.ones(10, np.float32), compression=compression)


@pytest.mark.parametrize(
    "settings",
    [
        (None, "int8"),
        ("int8", "int4"),
        (hawser.Compression("int8", block=64), hawser.Compression("int8", block=128)),
        (hawser.Compression("int8"), hawser.Compression("int8", rounding="stochastic")),
    ],
)
def test_peers_with_other_settings_are_told(run_peers, settings):
    def peer(comm):
        x = inputs(comm.rank, 100)
        with pytest.raises(hawser.UsageError) as caught:
            comm.all_reduce(x, compression=settings[comm.rank])
        assert caught.value.name == "MISMATCH" and x.tobytes() == inputs(comm.rank, 100).tobytes()
        comm.all_reduce(x, compression="int8")
        return str(caught.value)

    first, second = run_peers(2, peer)
    assert first == second
