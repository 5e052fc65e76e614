"""Shared by all tests of the Python package: a coordinator, and peers as threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hawser
import pytest

# Long enough for a loaded machine, short enough that a hang is a failure of the test and not of the whole run.
PATIENCE = 60.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also what takes minutes: every method of the test bed")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: runs with --full only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out, rather than skips: what takes minutes is not missing from a default run."""
    if not config.getoption("--full"):
        long = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture
def coordinator() -> Iterator[hawser.Coordinator]:
    with hawser.Coordinator(heartbeat_ms=200, peer_timeout_ms=2000) as service:
        yield service


@pytest.fixture
def solo(coordinator: hawser.Coordinator) -> Iterator[hawser.Communicator]:
    """The only member of its group: operations end at once."""
    with hawser.connect(coordinator, join_timeout=PATIENCE, op_timeout=PATIENCE) as comm:
        yield comm


@pytest.fixture
def run_peers(coordinator: hawser.Coordinator) -> Callable[..., list[Any]]:
    """run_peers(count, function, **options of connect): function(comm) in one thread per peer; its results by rank."""

    def run(count: int, function: Callable[[hawser.Communicator], Any], **options: Any) -> list[Any]:
        settings = {"min_size": count, "join_timeout": PATIENCE, "op_timeout": PATIENCE} | options

        done = threading.Barrier(count)  # nobody leaves, and so changes the view, while another still looks at it

        def peer(number: int) -> tuple[int, Any]:
            try:
                with hawser.connect(coordinator.address, name=f"peer-{number}", **settings) as comm:
                    rank = comm.rank
                    result = function(comm)
                    done.wait(PATIENCE)
                    return rank, result
            except BaseException:
                done.abort()
                raise

        with ThreadPoolExecutor(count) as pool:
            futures = [pool.submit(peer, number) for number in range(count)]
        failures = [error for error in (future.exception() for future in futures) if error is not None]
        # A failure makes the other peers fail as well: show the one that came first.
        for failure in sorted(failures, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise failure
        results = dict(future.result() for future in futures)
        assert sorted(results) == list(range(count))
        return [results[rank] for rank in range(count)]

    return run
