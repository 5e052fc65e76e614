#!/usr/bin/env python3
"""Kills a process at every named place (docs/testing.md), in groups of every size, and checks every value of every result.

    HAWSER_BIN=build/release/tools/hawser python3 stress/kill_points.py [--long] [--seed K] [--size N]... [--point NAME]...

Each run of `hawser stress` goes through its places one after the other: a process is told one, dies there, the others
recover, somebody replaces it. Members leave and operations are cancelled meanwhile, so that there are view changes to die
in. A place counts only if a process died there.

Without options: every place once in groups of 2, 3 and 4, with operations in place and not; where there is a majority to lose,
those of view changes once more with a standby. --long: ten times, and all places with a standby three times. Exit status 1 if a
value was wrong, a call hung, peers disagreed, or a place was not met; 77 if this build has no kill points.
"""

import argparse
import json
import os
import random
import subprocess
import sys

HAWSER = os.environ.get("HAWSER_BIN", "hawser")
SIZES = (2, 3, 4)
PLACEMENTS = ("in-place", "out-of-place")
VIEW_CHANGE = {"seal_reply.sent", "accept.sent", "coordinator.persisted", "coordinator.install_sent"}
SKIPPED = 77


def kill_points():
    listed = subprocess.run([HAWSER, "stress", "--list-kill-points", "--json"], capture_output=True, text=True, check=True)
    return json.loads(listed.stdout)


def run(points, size, placement, standbys, times, seed, limit_s):
    points = [point for point in points if placement == "in-place" or not point["in_place"]]
    command = [
        HAWSER, "stress", "--json", "--quiet", "--spawn", size, "--seed", seed, "--seconds", limit_s, "--placement", placement,
        "--kill-at-times", times, "--max-bytes", "512K", "--leave-every", 0.4, "--cancel-percent", 20, "--peer-timeout-ms", 1000,
        "--op-timeout-ms", 8000, # While one is about to die, nobody may leave who belongs to a small majority: newcomers come by themselves then.
        *(["--standbys", standbys, "--join-every", 0.5] if standbys else []),
    ]  # fmt: skip
    for point in points:
        command += ["--kill-at", point["name"]]
    command = [str(word) for word in command]
    result = subprocess.run(command, capture_output=True, text=True, timeout=limit_s + 120, check=False)
    again = " ".join(command)
    if "takes a build with kill points" in result.stderr:
        print(result.stderr.strip())
        sys.exit(SKIPPED)
    try:
        summary = json.loads(result.stdout)
    except ValueError:
        return {}, f"exit {result.returncode} without a summary: {again}\n{result.stderr}"
    met = summary["kill_points"]
    missing = [point["name"] for point in points if met.get(point["name"], 0) < times]
    problem = ""
    if result.returncode != 0:
        problem = f"exit {result.returncode}: {again}\n{result.stderr}"
    elif missing:
        problem = f"not met {times} times in {limit_s} s: {', '.join(missing)}: {again}"
    print(f"{size} peers, {placement}{', a standby' if standbys else ''}: {sum(met.values())} deaths at {len(met)} places, {summary['ops']} ops, "
          f"{summary['seconds']:.1f} s{', FAILED' if problem else ''}", flush=True)  # fmt: skip
    return met, problem


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--size", type=int, action="append", help="only groups of so many peers")
    parser.add_argument("--point", action="append", help="only this place")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)

    points = [point for point in kill_points() if not options.point or point["name"] in options.point]
    sizes = options.size or SIZES
    # With standbys a majority must be left: of two members there is none.
    quorum = [point for point in points if options.long or point["name"] in VIEW_CHANGE]
    problems = []

    def add(chosen, size, placement, standbys, times, limit_s):
        if chosen:
            _, problem = run(chosen, size, placement, standbys, times, options.seed + len(problems), limit_s)
            problems.append(problem)
            if problem:
                print(problem, file=sys.stderr, flush=True)

    times, with_standby = (10, 3) if options.long else (1, 1)
    for size in sizes:
        for placement in PLACEMENTS:
            add(points, size, placement, 0, times, 60 * times)
            if size > 2:
                add(quorum, size, placement, 1, with_standby, 120 * with_standby)  # a coordinator that dies is away for a while

    failed = [problem for problem in problems if problem]
    print(f"{len(problems)} runs, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
