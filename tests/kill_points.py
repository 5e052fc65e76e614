#!/usr/bin/env python3
"""Compares the kill points of the library with the list of `hawser stress` and with docs/testing.md.

    kill_points.py ROOT         one line a difference, exit 1 if there are any
    kill_points.py --self-test  checks that a difference is found
"""

import pathlib
import re
import sys


def names_in(sources, tool, page):
    return {
        "src": set(re.findall(r'HAWSER_KILL_POINT\("([^"]+)"\)', sources)),
        "tools/hawser/stress_kill_points.cpp": set(re.findall(r'KillPoint\{"([^"]+)"', tool)),
        "docs/testing.md": set(re.findall(r"`([a-z_]+\.[a-z_]+)`", "\n".join(
            line.split("|")[1] for line in page.splitlines() if line.startswith("| `")))),
    }  # fmt: skip


def differences(names):
    every = set().union(*names.values())
    return [f"{name} is not in {place}" for name in sorted(every) for place, there in names.items() if name not in there]


def self_test():
    good = names_in('HAWSER_KILL_POINT("a.b");', 'KillPoint{"a.b", x}', "| `a.b` | c |")
    bad = names_in('HAWSER_KILL_POINT("a.b"); HAWSER_KILL_POINT("c.d");', 'KillPoint{"a.b"}', "| `a.b`, `e.f` | `g.h` |")
    found = differences(bad)
    expected = ["c.d is not in tools/hawser/stress_kill_points.cpp", "c.d is not in docs/testing.md", "e.f is not in src",
                "e.f is not in tools/hawser/stress_kill_points.cpp"]  # fmt: skip
    if differences(good) or found != expected:
        print(f"self-test failed: {differences(good)} {found}")
        return 1
    return 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = pathlib.Path(sys.argv[1])
    sources = "".join(path.read_text("utf-8") for path in sorted((root / "src").rglob("*.cpp")))
    names = names_in(sources, (root / "tools/hawser/stress_kill_points.cpp").read_text("utf-8"),
                     (root / "docs/testing.md").read_text("utf-8"))  # fmt: skip
    found = differences(names)
    for line in found:
        print(line)
    print(f"{len(names['src'])} kill points, {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
