#!/usr/bin/env python3
"""Mixes of faults against real processes, one after the other, for as long as asked.

    HAWSER_BIN=build/release/tools/hawser python3 stress/soak.py [--seconds S] [--seed K] [--mix NAME]... [--json]

Each mix is a run of `hawser stress`, which compares every element of every result with the sum of exactly those peers that
the result names. The time is divided among the mixes; those that need root are left out without it. Ends with a summary; exit
status 1 if a value was wrong, a call hung, peers disagreed, or anything failed that no fault explains.

An hour: python3 stress/soak.py --seconds 3600
"""

import argparse
import json
import os
import random
import subprocess
import sys

HAWSER = os.environ.get("HAWSER_BIN", "hawser")
ROOT = os.geteuid() == 0

# The faults of each mix, and whether it takes root. Periods in seconds; peers 4 unless said.
MIXES = {
    "losses": ["--kill-every", 1, "--join-every", 1.2, "--leave-every", 3],
    "stops": ["--stop-every", 1.5, "--kill-every", 4, "--starve-every", 4],
    "coordinator": ["--coordinator-kill-every", 2, "--kill-every", 2.5, "--join-every", 3],
    "no-log": ["--coordinator-kill-every", 3, "--coordinator-log", "none", "--kill-every", 4],
    "standbys": ["--spawn", 5, "--standbys", 2, "--coordinator-kill-every", 2, "--coordinator-stop-every", 4, "--kill-every", 3],
    "strands": ["--strand-kill-every", 0.2, "--kill-every", 3, "--join-every", 4],
    "cuts": ["--cut-every", 2, "--kill-every", 5],
    "cuts-standbys": ["--spawn", 5, "--standbys", 2, "--cut-every", 2.5, "--coordinator-kill-every", 4],
    "everything": [
        "--spawn", 5, "--kill-every", 3, "--stop-every", 4, "--join-every", 2, "--leave-every", 6, "--coordinator-kill-every", 5,
        "--coordinator-stop-every", 7, "--starve-every", 9, "--cancel-percent", 3,
    ],
    "everything-root": [
        "--spawn", 5, "--kill-every", 4, "--stop-every", 6, "--join-every", 3, "--leave-every", 7, "--coordinator-kill-every", 6,
        "--coordinator-stop-every", 9, "--starve-every", 11, "--cut-every", 5, "--strand-kill-every", 1,
    ],
}  # fmt: skip
TAKES_ROOT = {"strands", "cuts", "cuts-standbys", "everything-root"}
SUMMED = (
    "ops", "results", "wrong", "hangs", "disagreements", "crashes", "errors", "explained", "kills", "stops", "joins", "leaves",
    "coordinator_kills", "coordinator_stops", "strand_kills", "cuts", "starvations", "expulsions", "expulsions_unexplained",
)  # fmt: skip


def run(name, seconds, seed):
    command = [HAWSER, "stress", "--json", "--quiet", "--seed", seed, "--seconds", seconds, "--max-bytes", "1M",
               "--op-timeout-ms", 10000, *MIXES[name]]  # fmt: skip
    command = [str(word) for word in command]
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 180, check=False)
    try:
        summary = json.loads(result.stdout)
    except ValueError:
        summary = {"ok": False}
    summary["mix"] = name
    summary["command"] = " ".join(command)
    if result.returncode != 0:
        summary["said"] = result.stderr
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="for all mixes together")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--mix", action="append", choices=sorted(MIXES), help="only this one")
    parser.add_argument("--json", action="store_true", help="print the sums as one JSON object")
    options = parser.parse_args()
    names = [name for name in options.mix or MIXES if ROOT or name not in TAKES_ROOT]
    seconds = options.seconds / len(names)
    print(f"seed {options.seed}, {seconds:.0f} s each of: {' '.join(names)}", file=sys.stderr, flush=True)

    summaries = []
    for index, name in enumerate(names):
        summary = run(name, seconds, options.seed + index)
        summaries.append(summary)
        print(f"{name:<16} {'ok' if summary['ok'] else 'FAILED':<7} ops {summary.get('ops', 0)}, kills {summary.get('kills', 0)}, "
              f"coordinators {summary.get('coordinator_kills', 0)}, cuts {summary.get('cuts', 0)}, recovery p50 "
              f"{summary.get('recovery_ms_p50') or 0:.0f} ms, max {summary.get('recovery_ms_max') or 0:.0f} ms",
              file=sys.stderr, flush=True)  # fmt: skip
        if not summary["ok"]:
            print(f"{summary['command']}\n{summary.get('said', '')}", file=sys.stderr, flush=True)

    total = {name: sum(summary.get(name, 0) for summary in summaries) for name in SUMMED}
    total["failed"] = [summary["mix"] for summary in summaries if not summary["ok"]]
    total["seed"] = options.seed
    if options.json:
        print(json.dumps(total))
    else:
        for name, value in total.items():
            print(f"{name:<24} {value}")
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
