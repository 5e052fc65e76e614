"""What the processes of test_processes.py run. Each function is the target of a spawned process and talks to the test
through a pipe: a tuple of a word and its values each way."""

from __future__ import annotations

import hashlib
import os
import sys
from multiprocessing.connection import Connection

import hawser
import numpy as np


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()


def reducer(address: str, size: int, number: int, pipe: Connection, policy: str = "retry") -> None:
    """Does what the test says: ("reduce", count), ("stall", count), ("admit",), ("leave",)."""
    with hawser.connect(
        address, min_size=size, name=f"reducer-{number}", policy=policy, join_timeout=30, op_timeout=30
    ) as comm:  # type: ignore[arg-type]
        pipe.send(("joined", comm.rank, comm.size, os.getpid()))
        while True:
            word, *values = pipe.recv()
            if word == "leave":
                return
            if word == "admit":
                before = comm.size
                while comm.size == before:
                    comm.admit()
                pipe.send(("admitted", comm.rank, comm.size))
                continue
            if word == "start":  # in the operation, and never coming back: killed inside
                work = comm.all_reduce(np.ones(values[0], np.float32), async_op=True)
                pipe.send(("inside",))
                work.wait()
                continue
            rng = np.random.default_rng(number)
            x = rng.standard_normal(values[0], np.float32)
            original = digest(x)
            work = comm.all_reduce(x, "avg", async_op=True)
            pipe.send(("inside",))
            try:
                work.wait()
            except hawser.PeerLostError as error:
                pipe.send((error.name, digest(x) == original, comm.size))
            else:
                info = work.info
                assert info is not None
                pipe.send(("reduced", digest(x), info.participants, info.attempts))


def leaves_everything_open(address: str) -> None:
    """Ends with an operation, an awaiting thread and a communicator open; prints when it gets to the end."""
    import asyncio
    import threading

    global kept
    comm = hawser.connect(address, min_size=2, join_timeout=30)
    work = comm.all_reduce(np.ones(3), tag=5, async_op=True)
    thread = threading.Thread(target=lambda: asyncio.run(await_it(work)), daemon=True)
    thread.start()
    blocked = threading.Thread(target=wait_quietly, args=(work,), daemon=True)
    blocked.start()
    kept = (comm, work)
    print("end", flush=True)


async def await_it(work: hawser.Work[np.ndarray]) -> None:
    await work


def wait_quietly(work: hawser.Work[np.ndarray]) -> None:
    try:
        work.wait()
    except hawser.Error:
        pass


if __name__ == "__main__":
    leaves_everything_open(sys.argv[1])
