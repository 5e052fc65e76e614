#!/usr/bin/env python3
"""Runs the model of the agreement, agreement.pml, through spin. The tables below are the tests.

    model.py list                one line a test: kind, name, `long` for those of the ctest configuration long, cost
    model.py correct NAME        the model as it is: the search must be complete, find nothing, and see all it should
    model.py mutant NAME         with a mistake: an assertion must find it
    model.py all [--long]        all of them, and a table

    --keep FOLDER                leaves spin's files there; `spin -t -p -g agreement.pml` with the same -D then shows
                                 the way to a violation

Exit status: 0 as it should be, 1 not so, 77 spin or a C compiler is missing.
"""

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = Path(__file__).with_name("agreement.pml")
SKIPPED = 77

# What a search must have seen: every one; where proposals are accepted; where a log decides; and so on.
BASIC = {
    "commit by Install",
    "commit of a rerun",
    "commit while sealed",
    "abort of what was done",
    "lower term leaves sealed",
}
QUORUM = {"proposal again"}
LOG = {"Install of an earlier round"}
ALONE = {"proposal again", "Install of an earlier round", "proposal once more"}
RECORDS = {"a failed record counts", "a point was passed", "a failed record was given up"}
REMOVALS = {"two removals"}
JOIN = {"newcomer let in", "a view missed"}
RESULTS = {"results differ"}


@dataclasses.dataclass(frozen=True)
class Setting:
    flags: str
    sees: frozenset = frozenset()
    cost: int = 5  # about how many seconds; ctest begins with the long ones
    mib: int = 2000
    long: bool = False


def sees(*sets):
    return frozenset().union(*sets)


CORRECT = {
    "quorum": Setting("-DT=3", sees(BASIC, QUORUM, REMOVALS), cost=40),
    "quorum.results": Setting("-DT=2 -DDIGESTS=2", sees(BASIC, QUORUM, REMOVALS, RESULTS)),
    "quorum.join": Setting("-DT=5 -DJOIN", sees(BASIC, QUORUM, JOIN, {"admission again", "newcomer forgets"}), cost=10),
    "quorum.plain": Setting("-DT=2 -DPLAIN", sees(BASIC, QUORUM, REMOVALS)),
    "log": Setting("-DT=3 -DLOG", sees(BASIC, LOG, REMOVALS)),
    "log.results": Setting("-DT=2 -DLOG -DDIGESTS=2", sees(BASIC, LOG, REMOVALS, RESULTS)),
    "log.join": Setting("-DT=4 -DLOG -DJOIN", sees(BASIC, LOG, JOIN, RECORDS), cost=10),
    "log.four": Setting("-DN=4 -DT=2 -DLOG", sees(BASIC, LOG, REMOVALS), cost=10),
    "alone": Setting("-DT=3 -DALONE", sees(BASIC, ALONE), cost=35),
    "alone.join": Setting("-DT=4 -DALONE -DJOIN", sees(BASIC, ALONE, {"newcomer let in", "admission again"})),
    "quorum.four": Setting("-DN=4 -DT=2", sees(BASIC, QUORUM, REMOVALS), cost=60, mib=4000, long=True),
    "log.three_changes": Setting("-DV=3 -DT=4 -DLOG", sees(BASIC, LOG, REMOVALS), cost=30, long=True),
    "quorum.join_three_changes": Setting("-DV=3 -DT=5 -DJOIN", sees(BASIC, QUORUM, JOIN), cost=30, long=True),
}

# Planted mistake: the smallest setting that shows it.
MUTANTS = {
    "done_after_seal": Setting("-DT=2"),
    "no_promise": Setting("-DT=2"),
    "no_acceptance": Setting("-DT=2"),
    "old_view_only": Setting("-DT=5 -DJOIN"),
    "any_half": Setting("-DN=2 -DV=1 -DT=2"),
    "minority": Setting("-DT=2"),
    "ignore_accepted": Setting("-DT=2"),
    "lowest_accepted": Setting("-DV=1 -DT=3"),
    "any_base": Setting("-DT=2"),
    "old_answers": Setting("-DT=2"),
    "lower_unseals": Setting("-DT=2"),
    "early_commit": Setting("-DT=2"),
    "stale_done": Setting("-DT=2"),
    "any_result": Setting("-DT=2 -DDIGESTS=2"),
    "forget_commit": Setting("-DT=2"),
    "forget_done": Setting("-DT=2"),
    "loss_aborts": Setting("-DT=2"),
    "abort_alone": Setting("-DT=2"),
    "not_logged": Setting("-DT=2 -DLOG"),
    "lost_log": Setting("-DT=2 -DLOG"),
    "unconfirmed": Setting("-DT=4 -DLOG -DJOIN"),
    "point_passed": Setting("-DT=4 -DLOG -DJOIN"),
    "half_removed": Setting("-DT=3 -DALONE"),
}


def compiler():
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    return None


def call(command, folder):
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    return done.returncode, done.stdout


def search(setting, flags, optimise, folder):
    """The output of the search, and how long it took."""
    cc = compiler()
    shutil.copy(MODEL, folder)
    status, text = call(["spin", f"-P{cc} -E -x c", "-a", *flags, MODEL.name], folder)
    if status != 0 or not Path(folder, "pan.c").exists():
        sys.exit(f"spin does not take the model:\n{text}")
    status, text = call(
        [cc, *optimise, "-w", "-DSAFETY", "-DVECTORSZ=1024", f"-DMEMLIM={setting.mib}", "-o", "pan", "pan.c"], folder
    )
    if status != 0:
        sys.exit(f"the search does not compile:\n{text}")
    begun = time.monotonic()
    # The table of states for the search of some millions; the depth is far above what is reached, and checked.
    status, text = call(["./pan", "-m100000", f"-w{24 if setting.cost >= 10 else 20}"], folder)
    return text, time.monotonic() - begun


def facts(text, seconds):
    found = [
        re.search(pattern, text, re.M)
        for pattern in (r"^ *(\d[\d.e+]*) states, stored", r"depth reached (\d+)", r"([\d.]+)\s+total actual memory")
    ]
    if not all(found):
        return f"the search broke off after {seconds:.1f} s"
    states, depth, mib = (float(match[1]) for match in found)
    return f"{states:,.0f} states, depth {depth:.0f}, {seconds:.1f} s, {mib:,.0f} MiB"


def correct(name, folder):
    setting = CORRECT[name]
    # A compiler that thinks long is worth it for the long searches only.
    text, seconds = search(setting, setting.flags.split(), ["-O2" if setting.cost >= 30 else "-O1"], folder)
    print(f"correct {name} ({setting.flags}): {facts(text, seconds)}")
    trouble = re.compile(r"^error|assertion violated|out of memory|not completed|too small|exceeds|aborted")
    wrong = [line for line in text.splitlines() if trouble.search(line)]
    if not re.search(r"errors: 0$", text, re.M):
        wrong.append("no line says that there were no errors")
    seen = set(re.findall(r"^seen: (.*)$", text, re.M))
    wrong += [f"never seen: {sight}" for sight in sorted(setting.sees - seen)]
    if wrong:
        print(*wrong, "--- the search:", text, sep="\n")
    return not wrong


def mutant(name, folder):
    setting = MUTANTS[name]
    # Found long before a better compiled search would have paid for itself.
    text, seconds = search(setting, [f"-DM_{name.upper()}", *setting.flags.split()], ["-O0"], folder)
    found = re.search(r"assertion violated (.*) \(at depth \d+\)", text)
    if found and "invalid array index" not in text:
        print(f"mutant {name} ({setting.flags}): found, {found[1]}; {facts(text, seconds)}")
        return True
    print(f"mutant {name} ({setting.flags}): no assertion of the model finds it; {facts(text, seconds)}")
    print(text)
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["list", "correct", "mutant", "all"])
    parser.add_argument("name", nargs="?")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    tables = {"correct": CORRECT, "mutant": MUTANTS}
    if arguments.what == "list":
        for kind, table in tables.items():
            for name, setting in table.items():
                print(kind, name, "long" if setting.long else "default", setting.cost)
        return 0
    if not shutil.which("spin") or not compiler():
        print("skipped: the model needs spin (Debian package spin) and a C compiler")
        return SKIPPED
    if arguments.what == "all":
        everything = [(kind, name, setting) for kind, table in tables.items() for name, setting in table.items()]
        chosen = [(kind, name) for kind, name, setting in everything if arguments.long or not setting.long]
    else:
        if arguments.name not in tables[arguments.what]:
            parser.error(f"no such test; there are {', '.join(tables[arguments.what])}")
        chosen = [(arguments.what, arguments.name)]
    good = True
    for kind, name in chosen:
        with contextlib.ExitStack() as stack:
            if arguments.keep:
                folder = arguments.keep / f"{kind}.{name}"
                folder.mkdir(parents=True, exist_ok=True)
            else:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hawser-model-"))
            good = (correct if kind == "correct" else mutant)(name, folder) and good
            sys.stdout.flush()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
