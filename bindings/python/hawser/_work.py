"""A collective in flight.

The operation belongs to the library's threads; a Work only asks about it. The buffers stay lent, and alive, until the
operation ended: a Work that is dropped before is cancelled, and its communicator keeps the buffers until the library is
done with them. For asyncio the wait moves to a small pool of threads, so the event loop goes on.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from hawser import _hawser
from hawser._errors import Error, PendingError
from hawser._units import NO_LIMIT_MS, wait_ms

if TYPE_CHECKING:
    from hawser._communicator import Communicator

T = TypeVar("T")


@dataclass(frozen=True)
class OpInfo:
    """How an operation went."""

    view: int
    """Number of the view in which it ended."""
    participants: int
    """Members that took part in the attempt that was committed; ``avg`` divides by it."""
    participant_ids: tuple[str, ...]
    """Their ids in rank order."""
    attempts: int
    """1 + the number of reruns after lost peers."""
    bytes_sent: int
    """Payload bytes this peer sent, over all attempts."""
    bytes_received: int
    """Payload bytes this peer received, over all attempts."""
    seconds: float
    """From the start to the end of the operation."""
    contributors: int
    """Weighted: participants with a weight other than 0; else all participants."""
    total_weight: float
    """Weighted: the sum of weights; else the number of participants."""
    weights: tuple[float, ...]
    """Of the participants, in rank order; 1 each when not weighted."""


@dataclass(frozen=True)
class ManyItemInfo(OpInfo):
    """How one tensor of a list went."""

    status: str
    """"OK": its result is there; else what it ended with, such as "PEER_LOST", its input as it was."""
    runs: int
    """Times it was started: more than 1 when a uniform list had to reduce it again, 0 when nothing was."""


@dataclass(frozen=True)
class ManyInfo:
    """How a list went as a whole."""

    view: int
    """Greatest view number of its items."""
    uniform: bool
    """Whether every item is committed, and all with the same participants."""
    participants: int
    """Fewest of any committed item."""
    rounds: int
    """``uniform=True``: 1 + the times that items had to run again after a loss."""
    attempts: int
    """Most of any item."""
    items_committed: int
    items_rerun: int
    """Items that ran again in those rounds, each time counted."""
    first_failed: int | None
    """Index of the item whose error the call raised."""
    bytes_sent: int
    """Payload bytes of this peer, over all items, runs and attempts."""
    bytes_received: int
    seconds: float
    items: tuple[ManyItemInfo, ...]
    """Each item, in the order of the list."""


class Work(Generic[T]):
    """One collective that was started with ``async_op=True``; ``await work`` or ``work.wait()`` gives its result.

    The buffers must not be touched until then. Any thread may wait, test or cancel.
    """

    __slots__ = ("_op", "_result", "_comm", "__weakref__")

    def __init__(self, op: _hawser.Op, result: T, comm: Communicator) -> None:
        self._op = op
        self._result = result
        self._comm = comm

    def wait(self, timeout: float | None = None) -> T:
        """Waits for the end and returns the result, or raises what the operation ended with.

        ``timeout``: seconds of this wait; None: as long as the operation's own deadline lasts. PendingError (a
        TimeoutError) when it is over first: the operation goes on. An exception of a signal handler, such as
        KeyboardInterrupt, cancels the operation.
        """
        if not self._op.wait(wait_ms(timeout)):
            raise PendingError("the operation has not ended yet; wait again, or cancel it")
        return self._result

    def test(self) -> bool:
        """Whether the operation has ended, well or not. Never blocks."""
        return self._op.ended()

    def cancel(self) -> None:
        """Asks that the operation end, with CANCELLED at every member unless its result is there already. Does not
        wait.
        """
        self._op.cancel()

    @property
    def result(self) -> T:
        """The result; raises what the operation ended with, PendingError while it runs."""
        return self.wait(0)

    @property
    def info(self) -> OpInfo | None:
        """How the operation went, None while it runs."""
        return info_of(self._op)

    def __await__(self) -> Generator[object, None, T]:
        return self._wait_on_loop().__await__()

    async def _wait_on_loop(self) -> T:
        if not self.test():
            loop = asyncio.get_running_loop()
            ended: asyncio.Future[None] = loop.create_future()
            _waiters.submit(_Waiting(self._op, loop, ended))
            try:
                await ended
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.wait(0)

    def __del__(self) -> None:
        # No constructor ran when there is no _op; no communicator is left to park with when the interpreter is ending.
        op, comm = getattr(self, "_op", None), getattr(self, "_comm", None)
        if op is None or comm is None or comm.closed:
            return
        try:
            if op.ended():
                return
            comm._park(op)
        except Error:  # of the parent of this process
            return
        warnings.warn(
            "a Work was dropped before its operation ended: cancelled", ResourceWarning, source=self, stacklevel=2
        )

    def __repr__(self) -> str:
        return f"<hawser.Work {'ended' if self.test() else 'running'}>"


def info_of(op: _hawser.Op) -> OpInfo | None:
    """The facts of an operation that ended, None for one that runs."""
    row = op.info()
    if row is None:
        return None
    return OpInfo(*row[:6], row[6] / 1e6, *row[7:])


class _Waiting:
    """One await: the operation, and the future of the loop that waits for it."""

    __slots__ = ("op", "loop", "ended")

    def __init__(self, op: _hawser.Op, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        self.op = op
        self.loop = loop
        self.ended = ended

    def run(self) -> None:
        try:
            self.op.wait(NO_LIMIT_MS)
        except Exception:  # told to whoever awaits, by the same call there
            pass
        try:
            self.loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop was closed meanwhile
            pass

    def _wake(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class _Waiters:
    """Threads that wait for operations on behalf of event loops: one for each await in progress, reused.

    Daemons, so that a program's end does not wait for them; the exit handler of the package ends their operations
    first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._unclaimed = 0  # threads in get() less items on their way to them

    def submit(self, waiting: _Waiting) -> None:
        with self._lock:
            self._unclaimed -= 1
            start = self._unclaimed < 0
            if start:
                self._unclaimed += 1
        self._queue.put(waiting)
        if start:
            threading.Thread(target=self._serve, name="hawser-await", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._queue.get().run()
            with self._lock:
                self._unclaimed += 1


_waiters = _Waiters()
