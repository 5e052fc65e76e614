#!/usr/bin/env python3
"""Runs a command that prints JSON, an object a line (`hawser bench --json`), and keeps what it printed as docs/results has it: with
machine, commit, time and command.

    python3 tools/compare/keep.py FILE [--note TEXT] -- build/release/tools/hawser bench all-reduce --spawn 4 --json
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import about


def main():
    parser = argparse.ArgumentParser(prog="keep.py", description="Keeps the JSON lines of a command as a result.")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--kind", choices=("bench", "kernels"), default="bench", help="what the rows are [%(default)s]")
    parser.add_argument("--note", metavar="TEXT", default="", help="what else is to be known of this run")
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="after --")
    options = parser.parse_args()
    try:
        result = subprocess.run(options.command, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        parser.error(f"{options.command[0]}: {error.strerror}")
    if result.returncode != 0:
        print(f"keep.py: exit status {result.returncode}: nothing is kept", file=sys.stderr)
        return 1
    try:
        rows = [json.loads(line) for line in result.stdout.splitlines() if line.strip()]
    except ValueError:
        rows = []
    if not rows or not all(isinstance(row, dict) for row in rows):
        print("keep.py: no JSON objects, one a line (--json?): nothing is kept", file=sys.stderr)
        return 1
    kept = {**about.heading(options.kind, options.command, options.note), "rows": rows}
    Path(options.file).write_text(json.dumps(kept, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
