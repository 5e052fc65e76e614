#!/usr/bin/env python3
"""Ten newcomers a second join a group that computes, and as many members leave; nothing may fail or begin again for them.

    HAWSER_BIN=build/release/tools/hawser python3 stress/joins.py [--long] [--seconds S] [--rate R] [--seed K]

A run of `hawser stress`, which compares every element of every result. Besides, no call may fail or be repeated, under either
policy; an operation may begin again only without somebody who has left; and joins must keep the pace. Without options six
seconds, --long: a minute. Exit status 1 if anything of this is not so.
"""

import argparse
import json
import os
import random
import subprocess
import sys

HAWSER = os.environ.get("HAWSER_BIN", "hawser")
KEPT = 0.8  # of the pace, at least: each newcomer is a process of its own, and so is whatever else runs here


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rate", type=float, default=10, help="joins a second (default: 10); builds with sanitizers start slowly")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    seconds = options.seconds or (60 if options.long else 6)
    command = [
        HAWSER, "stress", "--json", "--quiet", "--spawn", 4, "--seconds", seconds, "--seed", options.seed, "--max-bytes", "256K",
        "--join-every", 1 / options.rate, "--leave-every", 1 / options.rate, "--op-timeout-ms", 10000,
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
    for name in ("joins", "leaves"):
        if summary.get(name, 0) < KEPT * options.rate * seconds:
            problems.append(f"{name} {summary.get(name)} in {seconds:.0f} s, {options.rate:g} a second were asked for")
    if problems:
        print(f"{'; '.join(problems)}: {' '.join(command)}\n{result.stderr}", file=sys.stderr)
        return 1
    print(f"seed {options.seed}: {summary['joins']} joins, {summary['leaves']} leaves, {summary['ops']} operations, "
          f"{summary['results']} results, of which {summary['reruns']} begun again without somebody who left")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
