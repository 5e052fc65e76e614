"""The membership service of a run, embedded in this process. It runs on a thread of the library."""

from __future__ import annotations

import weakref
from types import TracebackType

from hawser import _hawser
from hawser._units import text, u32, wait_ms

live: weakref.WeakSet[Coordinator] = weakref.WeakSet()


class Coordinator:
    """A coordinator that accepts peers from now on; a context manager that stops it.

    ``listen``: ``"HOST:PORT"``, ``"[V6]:PORT"`` or ``":PORT"``; port 0 lets the system choose, ``address`` tells.
    ``heartbeat_ms``: interval of the heartbeats between coordinator and peers, None: 1000. ``peer_timeout_ms``: silence
    after which a peer is lost, None: 6 heartbeats. ``peers_max``: members and waiting peers together, None: 1024.

    Raises ArgumentValueError (the address does not parse or resolve), ResourceError (it is taken).
    """

    def __init__(
        self,
        listen: str = "127.0.0.1:0",
        *,
        heartbeat_ms: int | None = None,
        peer_timeout_ms: int | None = None,
        peers_max: int | None = None,
    ) -> None:
        self._coordinator = _hawser.Coordinator(
            text(listen, "listen"),
            u32(heartbeat_ms or 0, "heartbeat_ms"),
            u32(peer_timeout_ms or 0, "peer_timeout_ms"),
            u32(peers_max or 0, "peers_max"),
        )
        live.add(self)

    @property
    def address(self) -> str:
        """``"IP:PORT"`` with the real port, for ``hawser.connect``."""
        return self._coordinator.address()

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
