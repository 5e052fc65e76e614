"""A peer whose interpreter is busy for longer than a silent peer is kept stays a member."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor

import hawser
import numpy as np
from conftest import PATIENCE


def test_a_member_that_holds_the_gil_is_not_lost():
    peer_timeout_ms = 300
    with hawser.Coordinator(heartbeat_ms=50, peer_timeout_ms=peer_timeout_ms) as coordinator:
        settings = {"min_size": 2, "join_timeout": PATIENCE, "op_timeout": PATIENCE}
        with ThreadPoolExecutor(2) as pool:
            comms = [future.result(PATIENCE) for future in [
                pool.submit(hawser.connect, coordinator.address, **settings) for _ in range(2)
            ]]  # fmt: skip

            def sums():
                works = [comm.all_reduce(np.ones(1000, np.float32), "sum", async_op=True) for comm in comms]
                return [float(work.wait(PATIENCE)[0]) for work in works]

            assert sums() == [2.0, 2.0]
            before = [comm.view.number for comm in comms]
            # PyDLL keeps the GIL during the call: no Python runs in this process, so no peer's either.
            ctypes.PyDLL(None).poll(None, 0, 4 * peer_timeout_ms)
            assert sums() == [2.0, 2.0]
            assert [comm.view.number for comm in comms] == before
            for comm in comms:
                comm.__exit__(None, None, None)
