"""What is kept with every result: the machine, the commit, the time, and the words of the command."""

import platform
import shlex
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def machine():
    def lines(path):
        try:
            return Path(path).read_text().splitlines()
        except OSError:
            return []

    processor = [line.partition(":")[2].strip() for line in lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [line.split()[1] for line in lines("/proc/meminfo") if line.startswith("MemTotal")]
    congestion = lines("/proc/sys/net/ipv4/tcp_congestion_control")
    return {
        "processor": processor[0] if processor else platform.machine(),
        "processors": len(processor),
        "memory": f"{int(memory[0]) >> 20} GiB" if memory else "",
        "kernel": f"{platform.system()} {platform.release()}",
        "congestion_control": congestion[0] if congestion else "",
    }


def commit():
    """That of this clone, with + when it was changed since."""

    def git(*arguments):
        command = ["git", "-C", str(HERE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def heading(kind, words, note=""):
    """The first fields of a kept result; docs/results/README.md lists them."""
    return {
        "format": 1,
        "kind": kind,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "machine": machine(),
        "command": shlex.join(str(word) for word in words),
        "note": note,
    }
