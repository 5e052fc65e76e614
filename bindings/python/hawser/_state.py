"""Named tensors that are to be the same on all members (docs/shared-state.md)."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from hawser import _hawser
from hawser._communicator import POLICIES, Communicator, Policy
from hawser._compression import written
from hawser._errors import ArgumentTypeError, ArgumentValueError
from hawser._tensors import DTYPE_NAMES, buffer_of
from hawser._units import choice, integer, text, timeout_ms

Strategy = Literal["agree", "send_only", "receive_only"]
Decision = Literal["record", "majority", "unanimous"]

_STRATEGIES = {"agree": 0, "send_only": 1, "receive_only": 2}
_DECISIONS: tuple[Decision, ...] = ("record", "majority", "unanimous")

live: weakref.WeakSet[SharedState] = weakref.WeakSet()


@dataclass(frozen=True)
class SyncInfo:
    """How a sync went."""

    view: int
    """Number of the view in which it ended."""
    participants: int
    """Members that took part."""
    attempts: int
    """1 + the number of reruns after lost peers."""
    decision: Decision
    """"record": what the last sync or check recorded; "majority": of the members with a vote; "unanimous": all."""
    tensors_changed: int
    """Tensors written here."""
    sources: int
    """Members that sent blocks to this one."""
    behind: int
    """Members that held something else than what was decided, newcomers among them."""
    revision: int
    """Decided, and this peer's from now on."""
    blocks: int
    """Of the whole state."""
    blocks_received: int
    """Here; only blocks that differ travel."""
    bytes_received: int
    bytes_sent: int
    hash_seconds: float
    """Spent on hashing this peer's tensors."""
    seconds: float
    """Of the whole call."""
    root: str
    """Merkle root of the decided content, in hexadecimal."""


def sync_info(row: _hawser._SyncRow) -> SyncInfo:
    """The facts of a sync from the extension's row."""
    return SyncInfo(*row[:3], _DECISIONS[row[3]], *row[4:12], row[12] / 1e6, row[13] / 1e6, row[14].hex())


class SharedState:
    """Tensors by name with a revision; a context manager that lets go of them.

    ``tensors``: names (1 to 255 bytes of UTF-8) and tensors of any dtype and shape, C-contiguous and writable, in CPU
    memory: torch (``model.state_dict()``, not parameters that require grad), NumPy, buffer, DLPack. Order, names, types
    and counts are the same on all members. They are lent until ``close`` and touched during ``sync`` only; between
    syncs they may be changed at will.
    ``revision``: of their present content; whoever changes it the same way on all members says so by a new number.
    """

    def __init__(self, tensors: Mapping[str, Any] | Iterable[tuple[str, Any]], revision: int = 0) -> None:
        self._state = _hawser.State()
        self._tensors: dict[str, Any] = {}
        self._buffers: dict[str, _hawser.Buffer] = {}
        for name, tensor in tensors.items() if isinstance(tensors, Mapping) else tensors:
            if not isinstance(name, str):
                raise ArgumentTypeError(f"tensors: the name {name!r} is not a string")
            buffer = buffer_of(tensor, f"tensors[{name!r}]", write=True)
            self._state.add(text(name, "tensors") or "", buffer)
            self._tensors[name], self._buffers[name] = tensor, buffer
        self.revision = revision
        live.add(self)

    @property
    def revision(self) -> int:
        """Of this peer's content; a sync takes over the decided one."""
        return self._state.revision()

    @revision.setter
    def revision(self, revision: int) -> None:
        self._state.set_revision(integer(revision, "revision", 0, 2**64 - 1))

    def move(self, name: str, tensor: Any) -> None:
        """Says that a tensor now lives elsewhere, with the same dtype and shape."""
        if name not in self._buffers:
            raise ArgumentValueError(f"name: there is no tensor {name!r}; there are {', '.join(self._buffers)}")
        old, new = self._buffers[name], buffer_of(tensor, name, write=True)
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            raise ArgumentValueError(
                f"{name}: was {DTYPE_NAMES[old.dtype]} of shape {old.shape} and is {DTYPE_NAMES[new.dtype]} of shape"
                f" {new.shape} now; make a new SharedState, on all members"
            )
        self._state.move(name, new)
        self._tensors[name], self._buffers[name] = tensor, new

    def sync(
        self, comm: Communicator, strategy: Strategy = "agree", *, tag: int | None = None, timeout: float | None = None,
        policy: Policy | None = None, priority: int = 0,
    ) -> SyncInfo:  # fmt: skip
        """Makes the tensors the same on all members, which all call it at the same place of their programs.

        What the last sync recorded decides while a voter holds it, else the content of more than half of the voters;
        newcomers and receive-only members have no vote. Only blocks that differ travel, each verified before use.
        ``strategy``: "agree"; "send_only": never written here; "receive_only": takes over what is decided.
        ``tag``, ``timeout``, ``policy``, ``priority``: as for ``all_reduce``.

        Raises UsageError: MISMATCH (layouts differ, the text names tensor and peers; a send-only member would have to
        change), NO_MAJORITY; DeadlineError, PeerLostError and the rest as ``all_reduce``. After every error the tensors
        are as they were, at all members. Ctrl-C here aborts the communicator.
        """
        chosen = choice(strategy, "strategy", _STRATEGIES)
        info = sync_info(self._state.sync(comm._comm, chosen, *_options(tag, timeout, policy, priority)))
        if info.tensors_changed:
            written(list(self._tensors.values()))
        return info

    def check(
        self, comm: Communicator, *, tag: int | None = None, timeout: float | None = None, policy: Policy | None = None,
        priority: int = 0,
    ) -> SyncInfo:  # fmt: skip
        """Compares the members' content and moves nothing; what they all hold is recorded.

        Raises InternalError DIVERGED, whose text names who differs. Otherwise as ``sync``.
        """
        return sync_info(self._state.check(comm._comm, *_options(tag, timeout, policy, priority)))

    def close(self) -> None:
        """Lets go of the tensors. May be called again."""
        self._state.destroy()
        self._tensors, self._buffers = {}, {}

    def __enter__(self) -> SharedState:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _options(tag: int | None, timeout: float | None, policy: Policy | None, priority: int) -> tuple[int, int, int, int]:
    return (
        0 if tag is None else integer(tag, "tag", 1, 2**64 - 1),
        timeout_ms(timeout),
        0 if policy is None else choice(policy, "policy", POLICIES),
        integer(priority, "priority", -8, 7),
    )
