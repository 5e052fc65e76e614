"""One peer's end of a group: joining, admission, collectives, leaving.

Calls block without the GIL, so other threads go on, and return within 0.2 s of a Ctrl-C. The buffers of operations that
their callers gave up (an interrupted wait, a dropped Work) are parked here until the library is done with them.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TypeVar, overload

from hawser import _hawser
from hawser._compression import Codec, Compression, native
from hawser._coordinator import Coordinator
from hawser._errors import (
    STATUS_NAMES,
    ArgumentTypeError,
    ArgumentValueError,
    CoordinatorError,
    DeadlineError,
    Error,
    MembershipError,
    error_of_status,
)
from hawser._tensors import buffer_of, check_same_layout
from hawser._units import NO_LIMIT_MS, choice, integer, number, text, timeout_ms, u32
from hawser._work import ManyInfo, ManyItemInfo, OpInfo, Work, info_of

T = TypeVar("T")

Redop = Literal["sum", "avg", "prod", "min", "max"]
Policy = Literal["retry", "strict"]
Transport = Literal["auto", "tcp"]

_REDOPS = {"sum": 0, "avg": 1, "prod": 2, "min": 3, "max": 4}
POLICIES = {"retry": 1, "strict": 2}
TRANSPORTS = {"auto": 0, "tcp": 1}

# What a `with` block gives the coordinator to answer the good-bye. The peer is gone for the others either way.
_LEAVE_ON_EXIT_MS = 5000

live: weakref.WeakSet[Communicator] = weakref.WeakSet()


@dataclass(frozen=True)
class View:
    """The membership that is installed here."""

    number: int
    """Grows with every change; the same number is the same view at every member."""
    rank: int
    """This peer's place, 0 <= rank < size. Rank 0 is the oldest member, newcomers come last."""
    size: int
    """Members of the group."""


@dataclass(frozen=True)
class Member:
    """One member of a view."""

    id: str
    """128 random bits in hexadecimal, made when its communicator was."""
    name: str
    address: str
    """``"IP:PORT"`` it is dialled at."""


@dataclass(frozen=True)
class Metrics:
    """Counters of a communicator since it was made; rates come from the difference of two."""

    bytes_sent: int
    bytes_received: int
    ops_committed: int
    """Operations that ended well."""
    ops_failed: int
    ops_rerun: int
    """Attempts repeated after a lost peer."""
    views: int
    """Views installed here."""
    peers_lost: int
    """Members that views removed without their having left."""
    frames_stale: int
    """Data frames of an older epoch dropped at the door."""
    strands_open: int
    """Data connections that are up now."""
    ops_open: int
    """Operations in flight now."""
    frames_resent: int
    """Frames sent again because the connection that carried them was lost."""
    slow_rank: int
    """A member that an operation waits for unusually long now, -1: none (``hawser_metrics_t`` says what is unusual)."""
    slow_ms: int
    """For how long that operation has been open."""
    bytes_relayed: int
    """Payload that went by way of a third member, between two that cannot reach each other: sent so, or passed on."""
    strands_shared: int
    """Data connections that came to use shared memory."""


class Communicator:
    """A member of a group; made by ``hawser.connect``.

    As a context manager it leaves in order at the end of the block, or aborts when the block ends by an exception, and
    frees everything in both cases. All methods may be called from any thread; operations that several threads start
    need tags.
    """

    def __init__(self, comm: _hawser.Comm) -> None:
        self._comm = comm
        self._lock = threading.Lock()
        self._parked: list[_hawser.Op] = []  # guarded by _lock
        self._closed = False
        self._over = False  # left or aborted
        self._process = os.getpid()
        live.add(self)

    # ------------------------------------------------------------------------------------------------- membership

    @property
    def view(self) -> View:
        """The current view. Raises MembershipError when this peer is no member any more."""
        return View(*self._comm.view())

    @property
    def rank(self) -> int:
        """This peer's place in the current view."""
        return self._comm.view()[1]

    @property
    def size(self) -> int:
        """Members of the current view."""
        return self._comm.view()[2]

    @property
    def members(self) -> list[Member]:
        """The members of one view, by rank."""
        while True:
            before = self._comm.view()
            try:
                members = [Member(*self._comm.member(rank)) for rank in range(before[2])]
            except Error:
                if self._comm.view()[0] == before[0]:
                    raise
                continue  # a smaller view came in between
            if self._comm.view()[0] == before[0]:
                return members

    def admit(self, timeout: float | None = None) -> None:
        """An admission point: every member calls it at the same place of its program, as in each training step.

        When newcomers wait, the members agree on a common point and the call returns there in the new view; when nobody
        waits, it returns at once and sends nothing. The first call of a newcomer, before any operation, is the point
        where it was let in and returns at once: a loop that begins with ``admit`` serves both. DeadlineError: the
        others did not come; call again. Ctrl-C here aborts the communicator.
        """
        self._comm.admit(timeout_ms(timeout))

    def leave(self, timeout: float | None = None) -> None:
        """Leaves in order: waits for this peer's operations, tells the coordinator, closes. The others lose nothing."""
        self._comm.leave(timeout_ms(timeout))
        self._over = True

    def abort(self) -> None:
        """Ends the communicator now: every call in it raises ABORTED soon, in any thread; others see a lost peer."""
        self._over = True
        self._comm.abort()

    def close(self) -> None:
        """Frees everything, aborting if this peer has not left. May be called again."""
        self._over = self._closed = True
        self._comm.destroy()
        with self._lock:
            parked, self._parked = self._parked, []
        del parked  # their operations ended with the communicator: freeing them does not block

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def __enter__(self) -> Communicator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._over:
                self._comm.leave(_LEAVE_ON_EXIT_MS)
        except (CoordinatorError, DeadlineError, MembershipError):
            pass  # the end of the block is the end of the membership whoever heard of it
        finally:
            self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._process == os.getpid():
            warnings.warn("a Communicator was dropped without close()", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        try:
            view = self.view
        except Error as error:
            return f"<hawser.Communicator {error.name}>"
        return f"<hawser.Communicator rank {view.rank} of {view.size}, view {view.number}>"

    # ------------------------------------------------------------------------------------------------ collectives

    @overload
    def all_reduce(
        self, x: T, op: Redop = "avg", out: T | None = None, *, tag: int | None = None, timeout: float | None = None,
        policy: Policy | None = None, priority: int = 0, min_participants: int = 0,
        compression: Compression | Codec | None = None, weight: float | None = None,
        async_op: Literal[False] = False, return_info: Literal[False] = False,
    ) -> T: ...  # fmt: skip
    @overload
    def all_reduce(
        self, x: T, op: Redop = "avg", out: T | None = None, *, tag: int | None = None, timeout: float | None = None,
        policy: Policy | None = None, priority: int = 0, min_participants: int = 0,
        compression: Compression | Codec | None = None, weight: float | None = None,
        async_op: Literal[False] = False, return_info: Literal[True],
    ) -> tuple[T, OpInfo]: ...  # fmt: skip
    @overload
    def all_reduce(
        self, x: T, op: Redop = "avg", out: T | None = None, *, tag: int | None = None, timeout: float | None = None,
        policy: Policy | None = None, priority: int = 0, min_participants: int = 0,
        compression: Compression | Codec | None = None, weight: float | None = None,
        async_op: Literal[True], return_info: bool = False,
    ) -> Work[T]: ...  # fmt: skip
    def all_reduce(
        self, x: T, op: Redop = "avg", out: T | None = None, *, tag: int | None = None, timeout: float | None = None,
        policy: Policy | None = None, priority: int = 0, min_participants: int = 0,
        compression: Compression | Codec | None = None, weight: float | None = None,
        async_op: bool = False, return_info: bool = False,
    ) -> T | tuple[T, OpInfo] | Work[T]:  # fmt: skip
        """Reduces ``x`` over all members; every member gets the same bits, in ``out``, or in ``x`` itself without one.

        ``x``, ``out``: tensors of one shape and dtype, C-contiguous, in CPU memory: torch, NumPy, buffer, DLPack.
        ``op``: "sum", "avg" (divides by those who took part), "prod", "min", "max".
        ``tag``: matches the other members' operations of this tag; without one, their untagged operations in order.
        ``timeout``: seconds, None: the communicator's ``op_timeout``.
        ``policy``: "retry", "strict", None: the communicator's.
        ``priority``: -8..7, higher goes first.
        ``min_participants``: raises TOO_FEW, inputs untouched, when fewer members would take part.
        ``compression``: "bf16", "f16", "int8", "int4", "minmax8" or a Compression, for "sum" and "avg" of float32,
        bfloat16 and float16: fewer bytes, rounded values, still the same bits everywhere.
        ``weight``: of this peer in a weighted average, finite and >= 0; 0 leaves its values out. With "avg" of float32,
        bfloat16 and float16 only, at all members or none.

        Returns the array that holds the result; with ``return_info`` also its OpInfo; with ``async_op`` a Work at once.
        After every error the inputs are as they were.
        """
        redop = choice(op, "op", _REDOPS)
        options = _options(tag, timeout, policy, priority, min_participants)
        compressed, weighted = native(compression), None if weight is None else number(weight, "weight")
        if out is None or out is x:
            send = recv = buffer_of(x, "x", write=True)
        else:
            send, recv = buffer_of(x, "x", write=False), buffer_of(out, "out", write=True)
            check_same_layout(send, recv)
        self._sweep()
        return self._finish(
            self._comm.all_reduce(send, recv, redop, *options, compressed, weighted),
            x if out is None else out,
            async_op,
            return_info,
        )

    def all_reduce_many(
        self, tensors: Iterable[T], op: Redop = "avg", out: Iterable[T] | None = None, *, in_flight: int | None = None,
        uniform: bool = False, tag: int | None = None, timeout: float | None = None, policy: Policy | None = None,
        priority: int = 0, min_participants: int = 0,
        compression: Compression | Codec | Sequence[Compression | Codec | None] | None = None,
        weight: float | None = None,
    ) -> tuple[list[T], ManyInfo]:  # fmt: skip
        """Reduces a list of tensors, ``in_flight`` at a time (None: 8); every member gives an equal list.

        When a member is lost in the middle, tensors that were finished have its contribution and later ones lack it:
        ``info.uniform`` is False then, and ``info.items`` say which differ. With ``uniform=True``, at all members or
        none, that cannot be: what was finished is reduced again among those who are left, inside the call, or the call
        raises and every tensor is as it was. That takes one copy of what is reduced in place.

        ``compression``: for all, or a list with one for each. A Compression with a residual belongs to one tensor.
        ``timeout``: of the whole call. The rest as in ``all_reduce``; until it returns, other threads start nothing
        under its tag (None: nothing without a tag) and do not call ``admit``.

        Returns the arrays that hold the results and the ManyInfo. An error has it too, as ``error.info``; it is that of
        the first tensor that failed. Ctrl-C cancels; where that does not help soon, it aborts the communicator.
        """
        redop = choice(op, "op", _REDOPS)
        options = _options(tag, timeout, policy, priority, min_participants)
        weighted = None if weight is None else number(weight, "weight")
        xs = list(tensors)
        outs = xs if out is None else list(out)
        if len(outs) != len(xs):
            raise ArgumentValueError(f"out: {len(outs)} tensors for {len(xs)}")
        if isinstance(compression, (list, tuple)):
            codecs = [native(one) for one in compression]
            if len(codecs) != len(xs):
                raise ArgumentValueError(f"compression: {len(codecs)} of them for {len(xs)} tensors")
        else:
            codecs = [native(compression)] * len(xs)  # type: ignore[arg-type]
        items = []
        for index, (x, to, codec) in enumerate(zip(xs, outs, codecs)):
            if to is x:
                send = recv = buffer_of(x, f"tensors[{index}]", write=True)
            else:
                send, recv = buffer_of(x, f"tensors[{index}]", write=False), buffer_of(to, f"out[{index}]", write=True)
                check_same_layout(send, recv)
            items.append((send, recv, codec))
        self._sweep()
        status, sentence, rows, whole = self._comm.all_reduce_many(
            items, redop, 0 if in_flight is None else integer(in_flight, "in_flight", 1, 1024), bool(uniform), *options,
            weighted,
        )  # fmt: skip
        infos = tuple(
            ManyItemInfo(*row[:6], row[6] / 1e6, *row[7:], STATUS_NAMES.get(code, "UNKNOWN"), runs)
            for row, code, runs in rows
        )
        first_failed = whole[7] if whole[7] < len(xs) and status != 0 else None
        info = ManyInfo(*whole[:7], first_failed, *whole[8:10], whole[10] / 1e6, infos)
        if status == 0:
            return outs, info
        error = error_of_status(status, sentence)
        if any(item.runs for item in infos):
            error.info = info
        raise error

    @overload
    def broadcast(
        self, x: T, root: int = 0, out: T | None = None, *, tag: int | None = None, timeout: float | None = None,
        policy: Policy | None = None, priority: int = 0, min_participants: int = 0,
        async_op: Literal[False] = False, return_info: Literal[False] = False,
    ) -> T: ...  # fmt: skip
    @overload
    def broadcast(
        self, x: T, root: int = 0, out: T | None = None, *, tag: int | None = None, timeout: float | None = None,
        policy: Policy | None = None, priority: int = 0, min_participants: int = 0,
        async_op: Literal[False] = False, return_info: Literal[True],
    ) -> tuple[T, OpInfo]: ...  # fmt: skip
    @overload
    def broadcast(
        self, x: T, root: int = 0, out: T | None = None, *, tag: int | None = None, timeout: float | None = None,
        policy: Policy | None = None, priority: int = 0, min_participants: int = 0,
        async_op: Literal[True], return_info: bool = False,
    ) -> Work[T]: ...  # fmt: skip
    def broadcast(
        self, x: T, root: int = 0, out: T | None = None, *, tag: int | None = None, timeout: float | None = None,
        policy: Policy | None = None, priority: int = 0, min_participants: int = 0,
        async_op: bool = False, return_info: bool = False,
    ) -> T | tuple[T, OpInfo] | Work[T]:  # fmt: skip
        """Copies ``x`` of the member with rank ``root`` to all: into ``out``, or into ``x`` itself without one.

        With ``out``, ``x`` is read at the root only and may be None elsewhere. PeerLostError at all survivors, under
        either policy, when the root is lost: nobody else has its data. Otherwise as ``all_reduce``.
        """
        root = u32(root, "root")
        options = _options(tag, timeout, policy, priority, min_participants)
        send: _hawser.Buffer | None
        if out is None or out is x:
            send = recv = buffer_of(x, "x", write=True)
        else:
            send, recv = None if x is None else buffer_of(x, "x", write=False), buffer_of(out, "out", write=True)
            if send is not None:
                check_same_layout(send, recv)
        self._sweep()
        return self._finish(
            self._comm.broadcast(send, recv, root, *options), x if out is None else out, async_op, return_info
        )

    @overload
    def barrier(
        self, *, tag: int | None = None, timeout: float | None = None, policy: Policy | None = None, priority: int = 0,
        min_participants: int = 0, async_op: Literal[False] = False, return_info: Literal[False] = False,
    ) -> None: ...  # fmt: skip
    @overload
    def barrier(
        self, *, tag: int | None = None, timeout: float | None = None, policy: Policy | None = None, priority: int = 0,
        min_participants: int = 0, async_op: Literal[False] = False, return_info: Literal[True],
    ) -> tuple[None, OpInfo]: ...  # fmt: skip
    @overload
    def barrier(
        self, *, tag: int | None = None, timeout: float | None = None, policy: Policy | None = None, priority: int = 0,
        min_participants: int = 0, async_op: Literal[True], return_info: bool = False,
    ) -> Work[None]: ...  # fmt: skip
    def barrier(
        self, *, tag: int | None = None, timeout: float | None = None, policy: Policy | None = None, priority: int = 0,
        min_participants: int = 0, async_op: bool = False, return_info: bool = False,
    ) -> tuple[None, OpInfo] | Work[None] | None:  # fmt: skip
        """Returns when every member of the view has entered it. Arguments as in ``all_reduce``."""
        options = _options(tag, timeout, policy, priority, min_participants)
        self._sweep()
        return self._finish(self._comm.barrier(*options), None, async_op, return_info)

    def metrics(self) -> Metrics:
        """Counters of this communicator. Cheap enough for every step."""
        return Metrics(*self._comm.metrics())

    # --------------------------------------------------------------------------------------------------- internals

    def _finish(self, op: _hawser.Op, result: T, async_op: bool, return_info: bool) -> T | tuple[T, OpInfo] | Work[T]:
        if async_op:
            return Work(op, result, self)
        try:
            op.wait(NO_LIMIT_MS)
        except Error:
            raise
        except BaseException:  # of a signal handler: the operation is cancelled but may take a while to end
            self._park(op)
            raise
        if not return_info:
            return result
        info = info_of(op)
        assert info is not None
        return result, info

    def _park(self, op: _hawser.Op) -> None:
        """Cancels an operation that nobody waits for and keeps it, with its buffers, until it ended."""
        op.cancel()
        with self._lock:
            self._parked.append(op)
        if self._closed:  # closed meanwhile, by another thread
            self.close()

    def _sweep(self) -> None:
        """Lets go of parked operations that have ended."""
        if self._parked:
            with self._lock:
                self._parked = [op for op in self._parked if not op.ended()]


def _options(
    tag: int | None, timeout: float | None, policy: Policy | None, priority: int, min_participants: int
) -> tuple[int, int, int, int, int]:
    """The options of an operation in the extension's order and units."""
    return (
        0 if tag is None else integer(tag, "tag", 1, 2**64 - 1),
        timeout_ms(timeout),
        0 if policy is None else choice(policy, "policy", POLICIES),
        integer(priority, "priority", -8, 7),
        u32(min_participants, "min_participants"),
    )


def _addresses(address: str | Coordinator | Iterable[str] | None) -> str | None:
    if isinstance(address, Coordinator):
        return address.address
    if address is None or isinstance(address, str):
        return text(address, "address")
    try:
        parts = list(address)
    except TypeError:
        raise ArgumentTypeError(
            f"address: {address!r} is no address, no list of addresses and no Coordinator"
        ) from None
    return ",".join(text(part, "address") or "" for part in parts)


def _port_range(ports: str | tuple[int, int] | None) -> str | None:
    if ports is None or isinstance(ports, str):
        return text(ports, "port_range")
    try:
        first, last = ports
    except (TypeError, ValueError):
        raise ArgumentTypeError(f'port_range: {ports!r} is neither "FIRST-LAST" nor (first, last)') from None
    return f"{integer(first, 'port_range', 1, 65535)}-{integer(last, 'port_range', 1, 65535)}"


def connect(
    address: str | Coordinator | Iterable[str] | None = None,
    *,
    group: int = 0,
    min_size: int = 1,
    name: str | None = None,
    strands: int = 0,
    io_threads: int = 0,
    listen: str | None = None,
    advertise: str | None = None,
    port_range: str | tuple[int, int] | None = None,
    join_timeout: float | None = 60.0,
    op_timeout: float | None = 60.0,
    policy: Policy = "retry",
    straggler_ms: int = 0,
    transport: Transport = "auto",
    timeout: float | None = None,
) -> Communicator:
    """Joins a group and returns its communicator: at once when the group is new and has ``min_size`` peers, else at the
    members' next admission point.

    ``address``: ``"HOST:PORT"``, several of them (the first that answers is used), or a Coordinator of this process;
    None: the environment variable HAWSER_COORDINATORS.
    ``group``: peers of equal group compute together. ``name``: shown to others, None: "HOST/PID".
    ``strands``: TCP connections to each ring neighbour, 0: as many as help. ``io_threads``: threads that move bulk data, 0: 1 per 2 cores.
    ``listen``, ``advertise``, ``port_range``: where other peers connect to, as in hawser.h.
    ``join_timeout``: seconds, default of joining, ``admit`` and ``leave``. ``op_timeout``: of operations.
    ``timeout``: of this call, None: ``join_timeout``.
    ``policy``: what a lost peer does to an operation: "retry" runs it again among the survivors inside the call,
    "strict" raises PeerLostError at each of them, inputs as they were.
    ``straggler_ms``: 0: members that are slow to enter an operation are waited for until its deadline; else one that has
    not entered it this long after this peer is removed from the group, and the others go on.
    ``transport``: "auto" uses shared memory between peers of one host that may look into one another, "tcp" never.

    Raises DeadlineError (the text says what is missing), CoordinatorError, ArgumentValueError, ResourceError.
    """
    comm = _hawser.Comm(
        coordinators=_addresses(address),
        name=text(name, "name"),
        group=u32(group, "group"),
        min_size=u32(min_size, "min_size"),
        strands=u32(strands, "strands"),
        io_threads=u32(io_threads, "io_threads"),
        listen=text(listen, "listen"),
        advertise=text(advertise, "advertise"),
        port_range=_port_range(port_range),
        join_timeout_ms=timeout_ms(join_timeout, "join_timeout"),
        op_timeout_ms=timeout_ms(op_timeout, "op_timeout"),
        policy=choice(policy, "policy", POLICIES),
        straggler_ms=u32(straggler_ms, "straggler_ms"),
        transport=choice(transport, "transport", TRANSPORTS),
    )
    communicator = Communicator(comm)
    try:
        comm.join(timeout_ms(timeout))
    except BaseException:
        communicator.close()
        raise
    return communicator
