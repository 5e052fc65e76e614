"""What the processes of test_processes.py run. Each function is the target of a spawned process and talks to the test
through a pipe: a tuple of a word and its values each way."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import hawser
import numpy as np
import testbed


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


def world(pipe: Connection) -> None:
    """A coordinator and two members, all in this process, which the test stops and continues."""
    with hawser.Coordinator(heartbeat_ms=100, peer_timeout_ms=600) as coordinator:

        def member(number: int) -> tuple[int, int, int]:
            with hawser.connect(coordinator, min_size=2, name=f"member-{number}", join_timeout=30, op_timeout=30) as comm:
                x = np.ones(1000, np.float32)
                going = True
                while going:
                    comm.all_reduce(x, "avg")
                    if comm.rank == 0 and pipe.poll():
                        pipe.recv()
                        going = False
                    flag = np.array([going], np.uint8)
                    comm.broadcast(flag, root=0)
                    going = bool(flag[0])
                    if comm.rank == 0:
                        pipe.send(("round",))
                    time.sleep(0.01)  # a step's own work
                metrics = comm.metrics()
                comm.barrier()
                return metrics.views, metrics.frames_resent, metrics.strands_open

        with ThreadPoolExecutor(2) as pool:
            pipe.send(("over", list(pool.map(member, range(2)))))


def trainer(address: str, size: int, number: int, pipe: Connection) -> None:
    """Trains on the test bed as the test says: a dict of arguments for ``train_on_testbed``; ends at all else."""
    with hawser.connect(address, min_size=size, name=f"trainer-{number}", join_timeout=60, op_timeout=60) as comm:
        problem = testbed.Problem()
        pipe.send(("ready", comm.rank))
        while isinstance(order := pipe.recv(), dict):
            pipe.send(("trained", *train_on_testbed(comm, problem, number, pipe, **order)))
        comm.barrier()  # nobody leaves while another still trains


def train_on_testbed(
    comm: hawser.Communicator, problem: testbed.Problem, number: int, pipe: Connection, *, run: int, h: int, lr: float,
    momentum: float, delayed: bool, compression: str | None = None, error_feedback: bool = False,
    until_told: bool = False,
) -> tuple[list[tuple[int, ...]], np.ndarray]:  # fmt: skip
    """Checksums of parameters, anchor and momentum by round, and the parameters at the end. With ``until_told``, says
    ("round", number) after each, and goes on until something comes through the pipe of one of the members."""
    worker = testbed.Worker(problem, range(number, number + 1), run)
    tensors = testbed.views(worker.parameters[0])
    sums: list[tuple[int, ...]] = []

    def look() -> None:
        momenta = [outer.momentum_of(name) for name in tensors]
        anchors = [outer.anchor(name) for name in tensors]
        parts = [[tensors[name] for name in tensors], anchors, momenta]
        sums.append((outer.round, *(zlib.crc32(b"".join(x.tobytes() for x in part)) for part in parts)))
        if until_told:
            pipe.send(("round", outer.round))

    def last() -> bool:
        """Of a round, the same at all members."""
        if not until_told:
            return worker.t == testbed.STEPS // h * h
        return bool(comm.all_reduce(np.array([pipe.poll()], np.uint8), "max")[0])

    settings = {"compression": compression, "error_feedback": error_feedback}
    with hawser.DiLoCo(comm, tensors, lr, momentum, delayed=delayed, **settings) as outer:  # type: ignore[arg-type]
        outer.sync()
        worker.t = outer.round * h
        done = False
        while not done:
            for _ in range(h):
                worker.step()
            done = last()
            outer.step(weight=h)
            look()
        if delayed:
            outer.finish()
            look()
    return sums, worker.parameters[0].copy()


def gradient_averager(address: str, size: int, number: int, pipe: Connection, steps: int) -> None:
    """Averages every gradient of the test bed: eight workers are one with eight times the batch."""
    with hawser.connect(address, min_size=size, name=f"averager-{number}", join_timeout=60, op_timeout=60) as comm:
        worker = testbed.Worker(testbed.Problem(), range(number, number + 1), 0, steps=steps)
        for _ in range(steps):
            worker.step(average=lambda gradient: comm.all_reduce(gradient, "avg"))
        pipe.send(("trained", worker.parameters[0].copy()))
        comm.barrier()


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
