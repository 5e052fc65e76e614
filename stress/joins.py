#!/usr/bin/env python3
"""Ten newcomers a second join a group that computes, and as many members leave; nothing may fail or begin again for them.

    HAWSER_BIN=build/release/tools/hawser python3 stress/joins.py [--long] [--seconds S] [--rate R] [--seed K]

A run of `hawser stress`, which compares every element of every result. Besides, no call may fail or be repeated, under either
policy; an operation may begin again only without somebody who has left; and joins must keep the pace. A machine that is
shared may be too slow for the pace for some seconds: a run that misses nothing but the pace is done again, twice at most.
Without options six seconds, --long: a minute. Exit status 1 if anything of this is not so.
"""

import argparse
import json
import os
import random
import subprocess
import sys

HAWSER = os.environ.get("HAWSER_BIN", "hawser")
KEPT = 0.8  # of the pace, at least: each newcomer is a process of its own, and so is whatever else runs here
ATTEMPTS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rate", type=float, default=10, help="joins a second (default: 10); builds with sanitizers start slowly")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    seconds = options.seconds or (60 if options.long else 6)
    for attempt in range(ATTEMPTS):
        seed = (options.seed + attempt) % (1 << 32)
        command, summary, problems, missed, log = run(seed, options.rate, seconds)
        if problems or missed:
            print(f"{'; '.join(problems + missed)}: {' '.join(command)}\n{log}", file=sys.stderr)
        if problems:
            return 1
        if not missed:
            print(f"seed {seed}: {summary['joins']} joins, {summary['leaves']} leaves, {summary['ops']} operations, "
                  f"{summary['results']} results, of which {summary['reruns']} begun again without somebody who left")  # fmt: skip
            return 0
    return 1


def run(seed, rate, seconds):
    """One run: its command line, its summary, what was wrong, where it missed the pace, what it wrote to standard error."""
    command = [
        HAWSER, "stress", "--json", "--quiet", "--spawn", 4, "--seconds", seconds, "--seed", seed, "--max-bytes", "256K",
        "--join-every", 1 / rate, "--leave-every", 1 / rate, "--op-timeout-ms", 10000,
    ]  # fmt: skip
    command = [str(word) for word in command]
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    try:
        summary = json.loads(result.stdout)
    except ValueError:
        summary = {}
    problems = [] if result.returncode == 0 else [f"exit {result.returncode}"]
    for name in ("wrong", "hangs", "disagreements", "errors", "crashes", "repeats", "expulsions", "reruns_unexplained"):
        if summary.get(name, 1) != 0:
            problems.append(f"{name} {summary.get(name)}")
    missed = []
    for name in ("joins", "leaves"):
        if summary.get(name, 0) < KEPT * rate * seconds:
            missed.append(f"{name} {summary.get(name)} in {seconds:.0f} s, {rate:g} a second were asked for")
    return command, summary, problems, missed, result.stderr


if __name__ == "__main__":
    sys.exit(main())
