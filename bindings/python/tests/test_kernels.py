"""One group whose members compute with different instruction sets: the same bits from every codec, dtype and rounding.
Run as a program it is one of the members."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import hawser
import numpy as np
from conftest import PATIENCE

VARIANTS = ("scalar", "avx2", "avx512")  # of what the processor lacks it takes the next best
CODECS = (None, "bf16", "f16", "int8", "int4", "minmax8")
COUNTS = (1, 255, 65536 + 3)


def test_members_with_different_kernels_hold_the_same_bits(coordinator: hawser.Coordinator) -> None:
    members = [
        subprocess.Popen(
            [sys.executable, __file__, coordinator.address],
            env={**os.environ, "HAWSER_KERNELS": variant},
            stdout=subprocess.PIPE, text=True,
        )
        for variant in VARIANTS
    ]  # fmt: skip
    outputs = [member.communicate(timeout=2 * PATIENCE)[0].splitlines() for member in members]
    assert [member.returncode for member in members] == [0, 0, 0]
    assert len(outputs[0]) == len(COUNTS) * (len(CODECS) * 2 + 1) + 1
    for number, lines in enumerate(zip(*outputs)):
        assert len(set(lines)) == 1, f"line {number} differs: {lines}"


def member(address: str) -> None:
    with hawser.connect(address, min_size=3, join_timeout=PATIENCE, op_timeout=PATIENCE) as comm:
        rng = np.random.default_rng(comm.rank)
        parameters = {"w": rng.standard_normal(5000, np.float32)}
        for count in COUNTS:
            x = rng.standard_normal(count, np.float32) * 10.0 ** rng.integers(-30, 30, count).astype(np.float32)
            half = x.astype(np.float16)
            for codec in CODECS:
                for rounding in ("nearest", "stochastic"):
                    compression = hawser.Compression(codec, rounding=rounding, seed=3) if codec else None
                    show(codec, rounding, count, comm.all_reduce(x.copy(), "avg", compression=compression))
            show("f16", count, comm.all_reduce(half, "sum"))
        with hawser.DiLoCo(comm, parameters, compression="int8", error_feedback=True) as outer:
            outer.sync()
            for _ in range(5):
                parameters["w"] -= rng.standard_normal(5000, np.float32) / 100
                outer.step()
        show("outer", parameters["w"])
        comm.barrier()


def show(*values: object) -> None:
    *words, array = values
    assert isinstance(array, np.ndarray)
    print(*words, hashlib.sha256(array.tobytes()).hexdigest())


if __name__ == "__main__":
    member(sys.argv[1])
