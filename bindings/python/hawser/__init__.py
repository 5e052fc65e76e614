"""Hawser: fault-tolerant collective communication.

    import hawser, numpy

    with hawser.connect("10.0.0.1:4900", min_size=2) as comm:
        for step in range(steps):
            comm.admit()                       # lets waiting newcomers in; free when nobody waits
            comm.all_reduce(gradient, "avg")   # in place; a peer lost meanwhile costs a retry, not an error

To train with it: ``hawser.DiLoCo`` and ``hawser.torch.DiLoCo`` (outer steps), ``hawser.SharedState``, ``compression=``.

Threads: every call may be made from any thread and releases the GIL. fork(): a child cannot use what its parent made;
start workers with the multiprocessing method "spawn", or connect after the fork.
"""

from __future__ import annotations

import atexit
import time

from hawser import _communicator, _coordinator, _hawser, _outer, _state
from hawser._communicator import Communicator, Member, Metrics, View, connect
from hawser._compression import Compression, Residual
from hawser._coordinator import Coordinator, coordinator_report
from hawser._errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CoordinatorError,
    DeadlineError,
    Error,
    InternalError,
    MembershipError,
    PeerLostError,
    PendingError,
    ResourceError,
    RetryError,
    UsageError,
)
from hawser._outer import DiLoCo, OuterInfo
from hawser._state import SharedState, SyncInfo
from hawser._work import ManyInfo, ManyItemInfo, OpInfo, Work

__version__: str = _hawser.VERSION_STRING

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "Communicator",
    "Compression",
    "Coordinator",
    "CoordinatorError",
    "DeadlineError",
    "DiLoCo",
    "Error",
    "InternalError",
    "ManyInfo",
    "ManyItemInfo",
    "Member",
    "MembershipError",
    "Metrics",
    "OpInfo",
    "OuterInfo",
    "PeerLostError",
    "PendingError",
    "Residual",
    "ResourceError",
    "RetryError",
    "SharedState",
    "SyncInfo",
    "UsageError",
    "View",
    "Work",
    "build_info",
    "connect",
    "coordinator_report",
]

# How long the exit of the interpreter waits for threads to come out of calls that the end of their communicator ends.
_EXIT_GRACE_SECONDS = 5.0


def build_info() -> str:
    """The build, the processor and what was found at run time, as one JSON object."""
    return _hawser.build_info()


@atexit.register
def _close_all() -> None:
    """Ends what is open while the interpreter is whole, so that no thread of ours comes back into one that is not."""
    communicators = list(_communicator.live)
    for communicator in communicators:
        if not communicator.closed:
            try:
                communicator.abort()
            except Error:
                pass  # made before a fork: not ours to end
    for outer in list(_outer.live):
        outer.close()
    for state in list(_state.live):
        state.close()
    for communicator in communicators:
        communicator.close()
    for coordinator in list(_coordinator.live):
        coordinator.close()
    deadline = time.monotonic() + _EXIT_GRACE_SECONDS
    while _hawser.calls_in_flight() and time.monotonic() < deadline:
        time.sleep(0.001)  # lets the other threads have the GIL
