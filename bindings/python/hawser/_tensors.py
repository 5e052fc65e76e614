"""What may be given to a collective, and how its memory is found.

Accepted are torch tensors on the CPU, NumPy arrays (bfloat16 of ml_dtypes included), and whatever has the buffer
protocol or DLPack. Memory is lent, never copied, so what cannot be used as it lies is an error that names the reason.
No framework is imported here: an object can only be a torch tensor when its program has imported torch.
"""

from __future__ import annotations

import sys
from typing import Any

from hawser._errors import ArgumentTypeError, ArgumentValueError
from hawser._hawser import Buffer

# hawser_dtype_t
U8, I8, U16, I16, U32, I32, U64, I64, F16, BF16, F32, F64 = range(12)
DTYPE_NAMES = ("u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f16", "bf16", "f32", "f64")
_SUPPORTED = "8 to 64 bit integers, float16, bfloat16, float32, float64"

# DLPack device types whose memory the CPU can use: kDLCPU, kDLCUDAHost.
_CPU_DEVICES = (1, 3)
_DEVICE_NAMES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 13: "CUDA managed memory", 14: "oneAPI"}

_torch_dtypes: dict[Any, int] = {}


def buffer_of(x: Any, what: str, *, write: bool) -> Buffer:
    """The memory of ``x``; raises when a collective could not use it in place. ``what`` names the argument in
    errors.
    """
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "Tensor") and isinstance(x, torch.Tensor):
        buffer, described = _torch_buffer(x, what, torch, write), str(x.dtype)
    else:
        buffer = _exported_buffer(x, what)
        described = str(getattr(x, "dtype", "")) or f"format {buffer.format!r}"
    if buffer.dtype < 0:
        raise ArgumentTypeError(f"{what}: elements of {described} cannot be reduced; use {_SUPPORTED}")
    if not buffer.contiguous:
        raise ArgumentValueError(
            f"{what}: not C-contiguous (shape {buffer.shape}); Hawser never copies silently, pass a contiguous copy"
        )
    if write and buffer.readonly:
        raise ArgumentValueError(f"{what}: read-only, but the result is written to it; pass a writable one")
    return buffer


def check_same_layout(x: Buffer, out: Buffer) -> None:
    """Raises when ``out`` cannot take the result for ``x``."""
    if x.dtype != out.dtype:
        raise ArgumentTypeError(
            f"out: elements of {DTYPE_NAMES[out.dtype]} cannot take the result for x of {DTYPE_NAMES[x.dtype]}"
        )
    if x.shape != out.shape:
        raise ArgumentValueError(f"out: shape {out.shape} differs from shape {x.shape} of x")


def _torch_buffer(x: Any, what: str, torch: Any, write: bool) -> Buffer:
    if not _torch_dtypes:
        names = {
            "uint8": U8, "int8": I8, "uint16": U16, "int16": I16, "uint32": U32, "int32": I32, "uint64": U64,
            "int64": I64, "float16": F16, "bfloat16": BF16, "float32": F32, "float64": F64,
        }  # fmt: skip
        _torch_dtypes.update({getattr(torch, name): code for name, code in names.items() if hasattr(torch, name)})
    if x.layout is not torch.strided:
        raise ArgumentTypeError(f"{what}: a {x.layout} tensor; pass a dense one (.to_dense())")
    if x.device.type != "cpu":
        raise ArgumentValueError(f"{what}: on device {x.device}; this build works on CPU memory, pass x.cpu()")
    if x.requires_grad:
        raise ArgumentValueError(
            f"{what}: requires grad, and no gradient flows through a collective; pass x.detach() or x.data, which share"
            " its memory"
        )
    if x.is_neg() or x.is_conj():
        raise ArgumentValueError(
            f"{what}: a lazily negated or conjugated view; pass x.resolve_neg() or x.resolve_conj()"
        )
    dtype = _torch_dtypes.get(x.dtype, -1)
    if dtype >= 0 and write and not x.is_inference():
        # Autograd then knows that values it may have saved are changed behind its back.
        torch.autograd.graph.increment_version(x)
    return Buffer.from_address(x.data_ptr(), dtype, list(x.shape), x.is_contiguous(), False, x)


def _exported_buffer(x: Any, what: str) -> Buffer:
    numpy: Any = sys.modules.get("numpy")
    if hasattr(numpy, "ndarray") and isinstance(x, numpy.ndarray):
        if x.dtype.name == "bfloat16":
            # Not a type of the buffer protocol; the same memory seen as 16 bit words is.
            words = Buffer.from_exporter(x.view(numpy.uint16))
            return Buffer.from_address(words.address, BF16, list(words.shape), words.contiguous, words.readonly, words)
        try:
            return Buffer.from_exporter(x)
        except (BufferError, ValueError):  # datetimes and foreign types have no format
            raise ArgumentTypeError(f"{what}: elements of {x.dtype} cannot be reduced; use {_SUPPORTED}") from None
    device = getattr(x, "__dlpack_device__", None)
    if device is not None:
        kind, index = device()
        if int(kind) not in _CPU_DEVICES:
            name = _DEVICE_NAMES.get(int(kind), f"DLPack device type {int(kind)}")
            raise ArgumentValueError(
                f"{what}: on device {name}:{index}; this build works on CPU memory, pass a copy there"
            )
    elif hasattr(x, "__cuda_array_interface__"):
        raise ArgumentValueError(f"{what}: on a CUDA device; this build works on CPU memory, pass a copy there")
    try:
        return Buffer.from_exporter(x)
    except TypeError:
        pass
    if not hasattr(x, "__dlpack__"):
        raise ArgumentTypeError(
            f"{what}: {type(x).__name__} is no tensor: neither NumPy nor torch, neither buffer protocol nor DLPack"
        )
    try:
        capsule = x.__dlpack__(max_version=(1, 0))
    except TypeError:  # a producer from before version 1, which cannot say whether its memory is read-only
        capsule = x.__dlpack__()
    return Buffer.from_dlpack(capsule)
