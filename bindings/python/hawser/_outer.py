"""Outer steps of the DiLoCo family over tensors of any framework (docs/outer-steps.md); hawser.torch wraps an
optimizer with them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from hawser import _hawser
from hawser._communicator import Communicator
from hawser._compression import Codec, Compression, f32_buffer, import_numpy, native, written
from hawser._errors import ArgumentTypeError, ArgumentValueError
from hawser._state import SyncInfo, sync_info
from hawser._tensors import BF16, DTYPE_NAMES, F16, F32, buffer_of
from hawser._units import choice, integer, number, text, timeout_ms

NonFinite = Literal["leave_out", "fail"]

_NON_FINITE = {"leave_out": 0, "fail": 1}
_ANCHOR, _MOMENTUM, _PENDING = 0, 1, 2

live: weakref.WeakSet[DiLoCo] = weakref.WeakSet()


@dataclass(frozen=True)
class OuterInfo:
    """How a round went. Delayed: the round whose average was applied by this call, which is the one before."""

    round: int
    """Rounds that are part of the anchor now."""
    view: int
    """Number of the view in which the average ended; 0: none was applied (the first round of a delayed optimizer)."""
    participants: int
    """Members that took part in the average."""
    contributors: int
    """Of them, with a weight other than 0."""
    left_out: int
    """Of them, left out because of values that are not finite."""
    attempts: int
    """1 + reruns after lost peers."""
    self_left_out: bool
    """Whether this peer is one of those left out."""
    synced: bool
    """Whether newcomers came at the end of this call and took over the state."""
    total_weight: float
    delta_norm: float
    """L2 norm of this peer's pseudo-gradient in this call; NaN when it was not finite."""
    bytes_sent: int
    """Of the average that was applied, over all attempts."""
    bytes_received: int
    wait_seconds: float
    """This call waited for the network."""


class DiLoCo:
    """Outer optimizer: members train on their own for H steps, then average what they have moved.

    A round is ``anchor -= lr * (d + momentum * v)`` with ``v = momentum * v + d``, where ``d`` is the average of
    ``anchor - parameters`` over the members; then the parameters are set to the anchor. After every round parameters,
    anchor and momentum are equal to the bit on all members.

        outer = hawser.DiLoCo(comm, {"w": w, "b": b}, compression="int8")
        outer.sync()                                # first call of every member, newcomers too
        while training:
            for _ in range(h): inner_step(w, b)
            outer.step(weight=h)                    # the others' parameters come in; newcomers are let in

    ``params``: names and tensors, or tensors alone (their names are "0", "1", ...), of float32, bfloat16 or float16,
    C-contiguous and writable, in CPU memory. The same names, shapes and types on all members. Lent until ``close``.
    ``lr``, ``momentum``, ``nesterov``: of the outer step; without ``nesterov``, ``anchor -= lr * v``.
    ``delayed``: the average of a round is applied at the end of the next, so that it travels while training goes on;
    use a small momentum then, and call ``finish`` at the end of training, before ``close``.
    ``compression``: a name or a Compression without residual; ``error_feedback``: keeps what it leaves out for the next
    round. ``on_non_finite``: what a NaN or infinity in a member's parameters does: "leave_out" gives that member weight
    0 in this round, "fail" raises UsageError NOT_FINITE at all members, nothing changed.
    ``tag``, ``timeout`` (seconds): of its operations. ``manual_admission``: steps then let nobody in; call
    ``comm.admit()`` and ``sync()`` yourself.

    A context manager. Memory: 8 bytes a parameter, 4 more while a round is in flight, delayed 4 more, error feedback 4
    more. Settings that differ between members raise UsageError MISMATCH at the first call.
    """

    def __init__(
        self,
        comm: Communicator,
        params: Mapping[str, Any] | Iterable[Any],
        lr: float = 0.7,
        momentum: float = 0.9,
        nesterov: bool = True,
        delayed: bool = False,
        compression: Compression | Codec | None = None,
        error_feedback: bool = False,
        on_non_finite: NonFinite = "leave_out",
        *,
        tag: int | None = None,
        timeout: float | None = None,
        manual_admission: bool = False,
    ) -> None:
        if isinstance(compression, Compression) and compression.residual is not None:
            raise ArgumentValueError("compression: has a residual; pass error_feedback=True instead")
        self._tensors: dict[str, Any] = {}
        self._buffers: dict[str, _hawser.Buffer] = {}
        named = params.items() if isinstance(params, Mapping) else ((str(i), x) for i, x in enumerate(params))
        for name, tensor in named:
            if not isinstance(name, str):
                raise ArgumentTypeError(f"params: the name {name!r} is not a string")
            text(name, "params")
            self._tensors[name], self._buffers[name] = tensor, _param_buffer(tensor, name)
        if not self._tensors:
            raise ArgumentValueError("params: there are none to train")
        self._index = {name: index for index, name in enumerate(self._tensors)}
        self._outer = _hawser.Outer(
            comm=comm._comm,
            params=list(self._buffers.items()),
            lr=number(lr, "lr"),
            momentum=number(momentum, "momentum"),
            nesterov=bool(nesterov),
            delayed=bool(delayed),
            non_finite=choice(on_non_finite, "on_non_finite", _NON_FINITE),
            error_feedback=bool(error_feedback),
            compression=native(compression),
            tag=0 if tag is None else integer(tag, "tag", 1, 2**64 - 1),
            timeout_ms=timeout_ms(timeout),
            manual_admission=bool(manual_admission),
        )
        live.add(self)

    def sync(self) -> SyncInfo:
        """Makes anchor, momentum and round the same on all members and sets the parameters to the anchor.

        Every member's first call. While no round was made anywhere, the first member's parameters are everyone's;
        later the members' decide and newcomers take over. Errors as of ``SharedState.sync``.
        """
        info = sync_info(self._outer.sync())
        written(list(self._tensors.values()))
        return info

    def step(self, weight: float = 1.0) -> OuterInfo:
        """One round, at the same place of every member's program, after its inner steps.

        ``weight``: of this peer's contribution, such as the number of its inner steps or samples; finite, >= 0.
        After every error anchor, momentum and parameters are as they were, at all members, and the round may be tried
        again. Where the text says that the round itself was made, call ``sync``. Ctrl-C here aborts the communicator.
        """
        return self._made(self._outer.step(number(weight, "weight")))

    def begin(self, weight: float = 1.0) -> None:
        """Takes a copy of what the parameters have moved and starts to average it; not for delayed optimizers."""
        self._outer.begin(number(weight, "weight"))

    def finish(self) -> OuterInfo:
        """Waits for what ``begin`` started, makes the outer step and sets the parameters, whatever was done to them
        since. Delayed: at the end of training, applies the average that is still in flight.
        """
        return self._made(self._outer.finish())

    @property
    def round(self) -> int:
        """Rounds made."""
        return self._outer.round()[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters, in order."""
        return tuple(self._tensors)

    def anchor(self, name: str) -> Any:
        """A copy of what all members hold of a parameter: a NumPy array of float32. Waits for what is in flight."""
        return self._read(_ANCHOR, name)

    def momentum_of(self, name: str) -> Any:
        """A copy of a parameter's outer momentum: a NumPy array of float32. Waits for what is in flight."""
        return self._read(_MOMENTUM, name)

    def move(self, name: str, tensor: Any) -> None:
        """Says that a parameter now lives elsewhere, with the same dtype and shape."""
        index, old = self._position(name), self._buffers[name]
        new = _param_buffer(tensor, name)
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            raise ArgumentValueError(
                f"{name}: was {DTYPE_NAMES[old.dtype]} of shape {old.shape} and is {DTYPE_NAMES[new.dtype]} of shape"
                f" {new.shape} now; make a new outer optimizer after such a change, on all members"
            )
        self._outer.move(index, new)
        self._tensors[name], self._buffers[name] = tensor, new

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state for a checkpoint: round, anchor, momentum and, delayed, the average that is still to be
        applied, as NumPy arrays by name. Waits for what is in flight. The parameters are not in it.
        """
        round_made, pending = self._outer.round()
        state: dict[str, Any] = {
            "round": round_made,
            "anchor": {name: self._read(_ANCHOR, name) for name in self._tensors},
            "momentum": {name: self._read(_MOMENTUM, name) for name in self._tensors},
            "pending": {name: self._read(_PENDING, name) for name in self._tensors} if pending else None,
        }
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` gave, and sets the parameters to the anchor. Every member must load the same."""
        try:
            kinds = {_ANCHOR: state["anchor"], _MOMENTUM: state["momentum"], _PENDING: state["pending"]}
            round_made = integer(state["round"], "round", 0, 2**64 - 1)
        except (KeyError, TypeError):
            raise ArgumentValueError("state: not what state_dict() gives") from None
        copies: list[tuple[int, int, _hawser.Buffer]] = []
        for kind, tensors in kinds.items():
            if tensors is None and kind == _PENDING:
                continue
            if list(tensors) != list(self._tensors):
                missing = [name for name in self._tensors if name not in tensors]
                unknown = [name for name in tensors if name not in self._tensors]
                raise ArgumentValueError(
                    f"state: of other parameters; missing {missing}, unknown {unknown}"
                    if missing or unknown
                    else "state: of the same parameters in another order"
                )
            for name, values in tensors.items():
                buffer = f32_buffer(values, f"state of {name}", write=False)
                if buffer.shape != self._buffers[name].shape:
                    raise ArgumentValueError(
                        f"state: {name} is of shape {buffer.shape}, the parameter of {self._buffers[name].shape}"
                    )
                copies.append((kind, self._index[name], buffer))
        for kind, index, buffer in copies:  # all or none: everything was looked at before
            self._outer.write(kind, index, buffer)
        self._outer.set_round(round_made, kinds[_PENDING] is not None)
        written(list(self._tensors.values()))

    def close(self) -> None:
        """Cancels what is in flight and lets go of the parameters, which stay as they are. May be called again."""
        self._outer.destroy()
        self._tensors, self._buffers = {}, {}

    def __enter__(self) -> DiLoCo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --------------------------------------------------------------------------------------------------- internals

    def _made(self, row: _hawser._OuterRow) -> OuterInfo:
        written(list(self._tensors.values()))
        return OuterInfo(*row[:12], row[12] / 1e6)

    def _position(self, name: str) -> int:
        if name not in self._tensors:
            raise ArgumentValueError(f"name: there is no parameter {name!r}; there are {', '.join(self._tensors)}")
        return self._index[name]

    def _read(self, kind: int, name: str) -> Any:
        index = self._position(name)
        values = import_numpy().empty(self._buffers[name].shape, "float32")
        self._outer.read(kind, index, f32_buffer(values, name, write=True))
        return values


def _param_buffer(tensor: Any, name: str) -> _hawser.Buffer:
    buffer = buffer_of(tensor, f"params[{name!r}]", write=True)
    if buffer.dtype not in (F32, BF16, F16):
        raise ArgumentTypeError(
            f"params[{name!r}]: elements of {DTYPE_NAMES[buffer.dtype]}; outer steps take float32, bfloat16 and float16"
        )
    return buffer
