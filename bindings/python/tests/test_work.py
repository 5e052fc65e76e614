"""Operations in flight: waiting, testing, cancelling, awaiting, and what happens when nobody waits."""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
import weakref

import hawser
import numpy as np
import pytest
from conftest import PATIENCE
from hawser import _hawser


class Other:
    """What rank 1 shall do while rank 0 is in an operation: enter it, or let it be."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()

    def enter(self) -> None:
        self._orders.put("enter")

    def finish(self) -> None:
        self._orders.put("finish")

    def obey(self, comm: hawser.Communicator) -> None:
        if self._orders.get(timeout=PATIENCE) == "enter":
            comm.all_reduce(np.ones(4), "sum", tag=7)


def with_an_idle_peer(run_peers, function):
    """The result of function(comm, other) at rank 0; rank 1 enters no operation but what ``other`` is told."""
    other = Other()

    def peer(comm):
        if comm.rank == 1:
            other.obey(comm)
            return None
        try:
            return function(comm, other)
        finally:
            other.finish()

    return run_peers(2, peer)[0]


def until_inside():
    """Returns when a thread sits in a call of the library, and does not only pass through."""
    streak = 0
    while streak < 1000:
        streak = streak + 1 if _hawser.calls_in_flight() else 0
        time.sleep(0)


def once_inside(action):
    """Calls ``action`` from another thread as soon as this one sits in a call of the library."""

    def watch():
        until_inside()
        action()

    threading.Thread(target=watch, daemon=True).start()


def test_wait_test_result_and_info(run_peers):
    def peer(comm, other):
        x = np.ones(4)
        work = comm.all_reduce(x, "sum", tag=7, async_op=True)
        assert isinstance(work, hawser.Work)
        assert not work.test() and work.info is None and "running" in repr(work)
        for early in (lambda: work.wait(0), lambda: work.wait(0.1), lambda: work.result):
            with pytest.raises(hawser.PendingError) as caught:
                early()
            assert caught.value.name == "PENDING" and isinstance(caught.value, TimeoutError)
        other.enter()
        assert work.wait() is x
        assert work.wait(0) is x and work.result is x and work.test() and "ended" in repr(work)
        return x.tolist(), work.info.participants

    assert with_an_idle_peer(run_peers, peer) == ([2.0] * 4, 2)


def test_deadline_of_the_operation(run_peers):
    def peer(comm, other):
        x = np.ones(4)
        started = time.monotonic()
        with pytest.raises(hawser.DeadlineError) as caught:
            comm.all_reduce(x, "sum", tag=7, timeout=0.3)
        assert caught.value.name == "TIMEOUT" and isinstance(caught.value, TimeoutError)
        assert 0.25 < time.monotonic() - started < 10
        return x.tolist()

    assert with_an_idle_peer(run_peers, peer) == [1.0] * 4


def test_cancel_from_another_thread(run_peers):
    def peer(comm, other):
        x = np.ones(4)
        work = comm.all_reduce(x, "sum", tag=7, async_op=True)
        once_inside(work.cancel)
        with pytest.raises(hawser.RetryError) as caught:
            work.wait(PATIENCE)
        assert caught.value.name == "CANCELLED"
        with pytest.raises(hawser.RetryError):
            work.result  # noqa: B018
        return x.tolist()

    assert with_an_idle_peer(run_peers, peer) == [1.0] * 4


def test_abort_from_another_thread(run_peers):
    def peer(comm, other):
        once_inside(comm.abort)
        with pytest.raises(hawser.MembershipError) as caught:
            comm.barrier()
        return caught.value.name

    assert with_an_idle_peer(run_peers, peer) == "ABORTED"


def test_buffers_stay_alive_while_the_operation_runs(run_peers):
    def peer(comm, other):
        x, out = np.full(4, 5.0), np.zeros(4)
        of_x = weakref.ref(x)
        work = comm.all_reduce(x, "sum", out, tag=7, async_op=True)
        del x
        gc.collect()
        assert of_x() is not None
        other.enter()
        work.wait()
        del work
        gc.collect()
        assert of_x() is None
        return out.tolist()

    assert with_an_idle_peer(run_peers, peer) == [6.0] * 4


def test_a_lent_bytearray_cannot_be_resized(run_peers):
    def peer(comm, other):
        x = bytearray(32)
        work = comm.all_reduce(x, "sum", tag=7, async_op=True)
        with pytest.raises(BufferError):
            x.append(1)
        work.cancel()
        with pytest.raises(hawser.Error):
            work.wait(PATIENCE)
        del work
        gc.collect()
        x.append(1)
        return len(x)

    assert with_an_idle_peer(run_peers, peer) == 33


def test_a_dropped_work_is_cancelled(run_peers):
    def peer(comm, other):
        x = np.ones(4)
        with pytest.warns(ResourceWarning, match="dropped"):
            comm.all_reduce(x, "sum", tag=7, async_op=True)
            gc.collect()
        deadline = time.monotonic() + PATIENCE
        while comm.metrics().ops_open and time.monotonic() < deadline:
            time.sleep(0.001)
        return comm.metrics().ops_open, x.tolist()

    assert with_an_idle_peer(run_peers, peer) == (0, [1.0] * 4)


def test_works_outlive_their_communicator(coordinator):
    with hawser.connect(coordinator) as comm:
        x = np.ones(3)
        work = comm.all_reduce(x, async_op=True)
        work.wait()
    assert work.result is x and work.info.participants == 1


def test_await(run_peers):
    def peer(comm):
        async def main():
            works = [
                comm.all_reduce(np.full(1000, tag + comm.rank), "sum", tag=tag, async_op=True) for tag in range(1, 41)
            ]
            return [int(result[0]) for result in await asyncio.gather(*works)]

        return asyncio.run(main())

    want = [2 * tag + 1 for tag in range(1, 41)]
    assert run_peers(2, peer) == [want, want]


def test_await_does_not_block_the_loop(run_peers):
    def peer(comm, other):
        async def main():
            work = comm.all_reduce(np.ones(4), "sum", tag=7, async_op=True)

            async def elsewhere():
                for _ in range(100):
                    await asyncio.sleep(0)
                assert not work.test()
                other.enter()

            result, _ = await asyncio.gather(work, elsewhere())
            return result.tolist()

        return asyncio.run(main())

    assert with_an_idle_peer(run_peers, peer) == [2.0] * 4


def test_await_raises_what_the_operation_ended_with(run_peers):
    def peer(comm, other):
        async def main():
            with pytest.raises(hawser.DeadlineError):
                await comm.all_reduce(np.ones(4), tag=7, timeout=0.2, async_op=True)

        asyncio.run(main())

    with_an_idle_peer(run_peers, peer)


def test_cancelling_the_await_cancels_the_operation(run_peers):
    def peer(comm, other):
        work = comm.all_reduce(np.ones(4), "sum", tag=7, async_op=True)

        async def main():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(wait(), 0.1)

        async def wait():
            return await work

        asyncio.run(main())
        with pytest.raises(hawser.RetryError) as caught:
            work.wait(PATIENCE)
        return caught.value.name

    assert with_an_idle_peer(run_peers, peer) == "CANCELLED"


def test_waiting_releases_the_gil(run_peers):
    def peer(comm, other):
        work = comm.all_reduce(np.ones(4), "sum", tag=7, async_op=True)
        waiter = threading.Thread(target=work.wait)
        waiter.start()
        until_inside()
        turns = 0  # these need the GIL while the waiter sits in its call
        for _ in range(100_000):
            turns += 1
        assert not work.test() and waiter.is_alive()
        other.enter()
        waiter.join(PATIENCE)
        return turns

    assert with_an_idle_peer(run_peers, peer) == 100_000
