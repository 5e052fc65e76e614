"""How the bytes of an all-reduce are made fewer, and what that leaves out (docs/compression.md)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from hawser import _hawser
from hawser._errors import ArgumentTypeError, ArgumentValueError
from hawser._tensors import DTYPE_NAMES, F32, buffer_of
from hawser._units import choice, integer, number

Codec = Literal["bf16", "f16", "int8", "int4", "minmax8"]
Rounding = Literal["nearest", "stochastic"]

_CODECS = {"bf16": 1, "f16": 2, "int8": 3, "int4": 4, "minmax8": 5}
_BLOCKLESS = ("bf16", "f16")
_ROUNDINGS = {"nearest": 0, "stochastic": 1}


class Residual:
    """What compression left out of this peer's contributions so far, to be added to the next (error feedback).

    ``count``: elements, as many as the tensors that it is used with; all zero at first. It changes only when an
    operation that was given it ends well. One operation at a time may use it. A context manager that frees it.
    """

    def __init__(self, count: int) -> None:
        self._residual = _hawser.Residual(integer(count, "count", 0, 2**63 - 1))

    @property
    def count(self) -> int:
        """Elements."""
        return self._residual.count

    def read(self, out: Any = None) -> Any:
        """Copies it into ``out``, ``count`` elements of float32, or into a new NumPy array; returns that array."""
        if out is None:
            out = import_numpy().empty(self.count, "float32")
        self._residual.read(f32_buffer(out, "out", write=True))
        return out

    def write(self, values: Any) -> None:
        """Sets it to ``values``, ``count`` elements of float32, as from a checkpoint."""
        self._residual.write(f32_buffer(values, "values", write=False))

    def close(self) -> None:
        """Frees it. May be called again."""
        self._residual.destroy()

    def __enter__(self) -> Residual:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Compression:
    """Settings of a compressed all-reduce; all but ``seed``, ``residual`` and ``residual_decay`` are the same at all
    members. A name alone, such as ``"int8"``, stands for ``Compression("int8")``.

    ``codec``: "bf16" and "f16" take 2 bytes an element; "int8" and "minmax8" 1, "int4" half a byte, and scales.
    ``block``: elements that share a scale, a power of two from 32 to 4096; None: 256, for int4 64.
    ``rounding``: "nearest", or "stochastic", whose expectation is exact; ``seed`` is of its random numbers.
    ``residual``: error feedback, of this peer; ``residual_decay``: what it is multiplied by before it is added.

    Raises ArgumentValueError, a ValueError, for settings that no codec has.
    """

    codec: Codec
    block: int | None = None
    rounding: Rounding = "nearest"
    seed: int = 0
    residual: Residual | None = None
    residual_decay: float = 1.0

    def __post_init__(self) -> None:
        choice(self.codec, "codec", _CODECS)
        choice(self.rounding, "rounding", _ROUNDINGS)
        integer(self.seed, "seed", 0, 2**64 - 1)
        if self.block is not None:
            block = integer(self.block, "block", -(2**63), 2**63 - 1)
            if self.codec in _BLOCKLESS:
                raise ArgumentValueError(f"block: {self.codec} has no blocks; leave it out")
            if not 32 <= block <= 4096 or block & (block - 1):
                raise ArgumentValueError(
                    f"block: {block} is no power of two from 32 to 4096; leave it out for the default"
                )
        if self.residual is not None and not isinstance(self.residual, Residual):
            raise ArgumentTypeError(f"residual: {self.residual!r} is no hawser.Residual")
        if not 0 < number(self.residual_decay, "residual_decay") <= 1:
            raise ArgumentValueError(f"residual_decay: {self.residual_decay} is not within 0..1, without 0")

    def nbytes(self, count: int) -> int:
        """Bytes that ``count`` elements take when encoded."""
        return self._native().bytes(integer(count, "count", 0, 2**63 - 1))

    def _native(self) -> _hawser.Compression:
        return _hawser.Compression(
            _CODECS[self.codec],
            0 if self.block is None else self.block,
            _ROUNDINGS[self.rounding],
            self.seed,
            None if self.residual is None else self.residual._residual,
            float(self.residual_decay),
        )


def native(compression: Compression | Codec | None) -> _hawser.Compression | None:
    """What the extension takes, of what a user gives."""
    if compression is None:
        return None
    if isinstance(compression, str):
        choice(compression, "compression", _CODECS)
        compression = Compression(compression)
    if not isinstance(compression, Compression):
        raise ArgumentTypeError(f"compression: {compression!r} is neither a name nor a hawser.Compression")
    return compression._native()


def f32_buffer(x: Any, what: str, *, write: bool) -> _hawser.Buffer:
    """The memory of ``x``, which must be of float32."""
    buffer = buffer_of(x, what, write=write)
    if buffer.dtype != F32:
        raise ArgumentTypeError(f"{what}: elements of {DTYPE_NAMES[buffer.dtype]}; pass float32")
    return buffer


def import_numpy() -> Any:
    """NumPy, for what makes arrays; nothing else of the package needs it."""
    try:
        import numpy
    except ImportError:
        raise ArgumentValueError("NumPy is not installed: pip install numpy, or pass an array to copy into") from None
    return numpy


def written(tensors: list[Any]) -> None:
    """Tells autograd that tensors of torch among these have other values now."""
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "Tensor"):
        increment: Callable[[Any], None] = torch.autograd.graph.increment_version
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor) and not tensor.is_inference():
                increment(tensor)
