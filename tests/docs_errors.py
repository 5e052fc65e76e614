#!/usr/bin/env python3
"""Checks that the table of docs/errors.md lists exactly the statuses of include/hawser/hawser_errors.h, in their order, with
value, category and sentence, and that each has something in the columns for people.

    docs_errors.py ROOT         one line a finding, exit 1 if there are any
    docs_errors.py --self-test  checks that differences are found
"""

import re
import sys
from pathlib import Path

STATUS = re.compile(r'X\((\w+), (\d+), (\w+), "((?:[^"\\]|\\.)*)"\)')
ROW = re.compile(r"^\| `(\w+)` \|(.*)\|$", re.MULTILINE)
COLUMNS = 6  # name, value, category, meaning, when, what to do


def statuses(header):
    return [tuple(match.groups()) for match in STATUS.finditer(header)]


def rows(page):
    """Of the section with the table; another table of the page has sentences."""
    section = page.partition("\n## Statuses\n")[2].partition("\n## ")[0]
    return [(match.group(1), *(cell.strip() for cell in match.group(2).split("|"))) for match in ROW.finditer(section)]


def check(header, page):
    expected = statuses(header)
    found = rows(page)
    problems = []
    if len(expected) < 2:
        problems.append("no status found in the header: has its form changed?")
    for row in found:
        if len(row) != COLUMNS or not all(row):
            problems.append(f"{row[0]}: {len(row)} columns, {sum(map(bool, row))} of them filled; expected {COLUMNS}")
    listed = [row[:4] for row in found]
    for status in expected:
        if status not in listed:
            problems.append(f"{status[0]}: the page lacks the row | `{status[0]}` | {' | '.join(status[1:])} | ... |")
    for row in listed:
        if row not in expected:
            problems.append(f"{row[0]}: no such status, value, category or sentence in the header: {' | '.join(row)}")
    if not problems and listed != expected:
        problems.append("the order is not that of the header, or a row stands twice")
    return problems


def self_test():
    header = 'X(OK, 0, NONE, "success") \\\nX(PENDING, 1, NONE, "not ended yet")'
    head = "\n## Statuses\n\n"
    good = head + "| `OK` | 0 | NONE | success | a | b |\n| `PENDING` | 1 | NONE | not ended yet | a | b |\n"
    first, second = good.removeprefix(head).splitlines()
    bad = [
        good.replace("| 1 |", "| 2 |"),
        good.replace("success", "it went well"),
        good.replace("NONE | not", "RETRY | not"),
        head + first,
        good + first + "\n",
        good + "| `NOVEL` | 3 | NONE | new | a | b |\n",
        good.replace("| a | b |", "| a |  |"),
        good.replace("| a | b |", "| a |"),
        head + second + "\n" + first,
        head + first + "\n\n## More\n\n" + second,
        "",
    ]
    problems = [f"a correct page is refused: {problem}" for problem in check(header, good)]
    problems += [f"accepted: {page!r}" for page in bad if not check(header, page)]
    if not check("", good):
        problems.append("accepted: an empty header")
    return problems


def main(arguments):
    if arguments == ["--self-test"]:
        problems = self_test()
    elif len(arguments) == 1:
        root = Path(arguments[0])
        header = (root / "include/hawser/hawser_errors.h").read_text(encoding="utf-8")
        page = (root / "docs/errors.md").read_text(encoding="utf-8")
        problems = [f"docs/errors.md: {problem}" for problem in check(header, page)]
    else:
        print(__doc__, file=sys.stderr)
        return 2
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
