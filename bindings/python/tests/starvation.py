"""How long the threads of a process had work to do and no processor to do it on, so that a test can hold the library to a
time of its own: what a busy machine adds is taken off. Linux counts the nanoseconds on a run queue in schedstat, and what a
hypervisor took away in /proc/stat; nothing is taken off where it does not."""

from __future__ import annotations

import os
from pathlib import Path


def waits(process: int | str = "self") -> dict[str, float]:
    """Seconds that each thread of the process has waited so far; under "stolen" those of the machine."""
    out = {}
    for task in Path(f"/proc/{process}/task").glob("*/schedstat"):
        try:
            out[task.parent.name] = int(task.read_text().split()[1]) / 1e9
        except (OSError, IndexError):
            pass  # a thread that has ended, or a kernel that does not count
    try:
        stolen = int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])
        out["stolen"] = stolen / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        pass
    return out


def starved(before: dict[str, float], after: dict[str, float], threads: int) -> float:
    """Seconds that the `threads` that waited longest waited together: those that have to run one after the other."""
    grown = {name: waited - before.get(name, 0.0) for name, waited in after.items()}
    stolen = grown.pop("stolen", 0.0)
    return stolen + sum(sorted(grown.values(), reverse=True)[:threads])
