"""The membership service of a run, embedded in this process. It runs on a thread of the library."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from os import PathLike, fspath
from types import TracebackType
from typing import Any

from hawser import _hawser
from hawser._errors import ArgumentTypeError
from hawser._units import text, timeout_ms, u32, wait_ms

live: weakref.WeakSet[Coordinator] = weakref.WeakSet()


def _list(value: str | Sequence[str] | None, name: str) -> str | None:
    if value is None:
        return None
    return text(value if isinstance(value, str) else ",".join(value), name)


def coordinator_report(address: str, *, timeout: float | None = None) -> dict[str, Any]:
    """Asks the coordinator at ``"HOST:PORT"``, of this process or of another one, who is there; nobody is disturbed.

    The answer is what an element of ``hawser status --json`` is: ``run``, ``standby_of``, ``up_ms``, ``heartbeat_ms``,
    ``peer_timeout_ms``, ``peers`` and ``groups``. Of each group ``group``, ``lineage``, ``rule``, ``leads``, ``view``,
    ``epoch``, ``generation``, ``waits_for`` (a sentence, or None), ``members`` and ``others``; of each peer ``rank``,
    ``name``, ``id``, ``address``, ``state``, ``heard_ms``, ``why`` and, of members, what each last said of its
    operations. hawser.h describes them; more may be added. ``timeout``: seconds, None: 5.

    Raises CoordinatorError (nothing listens there, it does not answer, it is no coordinator), ArgumentValueError (the
    address does not parse or resolve).
    """
    address_text = text(address, "address")
    if address_text is None:
        raise ArgumentTypeError("address: None is not a string")
    report: dict[str, Any] = json.loads(_hawser.coordinator_report(address_text, timeout_ms(timeout)))
    return report


class Coordinator:
    """A coordinator that accepts peers from now on; a context manager that stops it.

    ``listen``: ``"HOST:PORT"``, ``"[V6]:PORT"`` or ``":PORT"``; port 0 lets the system choose, ``address`` tells.
    ``heartbeat_ms``: interval of the heartbeats between coordinator and peers, None: 1000. ``peer_timeout_ms``: silence
    after which a peer is lost, None: 6 heartbeats. ``peers_max``: members and waiting peers together, None: 1024.

    ``log_dir``: a directory in which every view is on the disk before it is announced; a coordinator that is started with
    the same directory goes on where the last one ended. ``standby_of``: addresses that stand before this one in the
    peers' lists; this one leads groups whose members come to it and forms none. ``etcd``: URLs of an etcd that keeps the
    views and says which of several coordinators leads (not with ``log_dir``); ``etcd_prefix``: in front of its keys.

    Raises ArgumentValueError (the address does not parse or resolve, the log is damaged), ResourceError (the address is
    taken, the log cannot be written or is in use).
    """

    def __init__(
        self,
        listen: str = "127.0.0.1:0",
        *,
        heartbeat_ms: int | None = None,
        peer_timeout_ms: int | None = None,
        peers_max: int | None = None,
        log_dir: str | PathLike[str] | None = None,
        standby_of: str | Sequence[str] | None = None,
        etcd: str | Sequence[str] | None = None,
        etcd_prefix: str | None = None,
    ) -> None:
        self._coordinator = _hawser.Coordinator(
            text(listen, "listen"),
            u32(heartbeat_ms or 0, "heartbeat_ms"),
            u32(peer_timeout_ms or 0, "peer_timeout_ms"),
            u32(peers_max or 0, "peers_max"),
            None if log_dir is None else text(fspath(log_dir), "log_dir"),
            _list(standby_of, "standby_of"),
            _list(etcd, "etcd"),
            None if etcd_prefix is None else text(etcd_prefix, "etcd_prefix"),
        )
        live.add(self)

    @property
    def address(self) -> str:
        """``"IP:PORT"`` with the real port, for ``hawser.connect``."""
        return self._coordinator.address()

    def report(self, timeout: float | None = None) -> dict[str, Any]:
        """Who is there, what each does, who is slow and what waits for what: ``coordinator_report`` of this one."""
        return coordinator_report(self.address, timeout=timeout)

    def stop(self) -> None:
        """Asks it to end: connections are closed, members go on without it. Does not wait."""
        self._coordinator.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it has ended, after ``stop`` or by a failure of its own; False when ``timeout`` seconds were over
        first.
        """
        return self._coordinator.wait(wait_ms(timeout))

    def close(self) -> None:
        """Stops it if needed, waits for the end, frees it. May be called again."""
        self._coordinator.destroy()

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
