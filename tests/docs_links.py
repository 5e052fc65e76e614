#!/usr/bin/env python3
"""Checks that references to the pages in docs/ lead somewhere: "docs/PAGE.md" and "docs/PAGE.md#anchor" in any text of the
project, and the links of the Markdown pages themselves. Addresses with a scheme are not looked at. Anchors are made from
headings as GitHub makes them.

    docs_links.py ROOT         one line a finding, exit 1 if there are any
    docs_links.py --self-test  checks that each kind of broken reference is found
"""

import re
import sys
import tempfile
from pathlib import Path

SCANNED = ("src", "include", "tests", "tools", "examples", "bindings", "cmake", "stress", "docs")
SUFFIXES = {".c", ".cc", ".cpp", ".h", ".hpp", ".py", ".pyi", ".sh", ".cmake", ".txt", ".md", ".toml"}

MENTION = re.compile(r"(?<![\w/.])docs/[\w./-]+\.md(?:#[\w-]+)?")
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")
FENCE = re.compile(r"^\s*(```|~~~)")


def visible(markdown):
    """The lines outside of fenced code; the others are left blank."""
    fenced = False
    for line in markdown.splitlines():
        if FENCE.match(line):
            fenced = not fenced
            yield ""
        else:
            yield "" if fenced else line


def anchors(page):
    found = set()
    for line in visible(page.read_text(encoding="utf-8")):
        if match := HEADING.match(line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match.group(1))
            base = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            anchor, number = base, 0
            while anchor in found:
                number += 1
                anchor = f"{base}-{number}"
            found.add(anchor)
    return found


def texts(root):
    for top in SCANNED:
        for path in sorted((root / top).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file() and path.name != Path(__file__).name:
                yield path
    for path in sorted(root.iterdir()):
        if path.suffix in SUFFIXES and path.is_file():
            yield path


def references(path, root):
    """(line number, what stands there, file it means, anchor or "")"""
    content = path.read_text(encoding="utf-8", errors="replace")
    markdown = path.suffix == ".md"
    for number, line in enumerate(visible(content) if markdown else content.splitlines(), 1):
        if markdown:
            for target in LINK.findall(line):
                if ":" in target:
                    continue
                file, _, anchor = target.partition("#")
                yield number, target, (path.parent / file).resolve() if file else path.resolve(), anchor
            line = LINK.sub("]", line)
        for mention in MENTION.findall(line):
            file, _, anchor = mention.partition("#")
            yield number, mention, (root / file).resolve(), anchor


def check(root):
    root = root.resolve()
    known = {}
    problems = []
    count = 0
    for path in texts(root):
        for number, reference, file, anchor in references(path, root):
            count += 1
            where = f"{path.relative_to(root)}:{number}: {reference}"
            if not file.is_relative_to(root) or not file.exists():
                problems.append(f"{where}: there is no such file")
            elif anchor:
                if file not in known:
                    known[file] = anchors(file) if file.suffix == ".md" else set()
                if anchor not in known[file]:
                    problems.append(f"{where}: no heading of that page makes this anchor")
    return problems, count


def self_test():
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "docs").mkdir()
        (root / "src").mkdir()
        (root / "docs/page.md").write_text("# A page\n\n## What it says, *now*\n\n## Twice\n## Twice\n```\n# Not one\n```\n")
        (root / "src/good.cpp").write_text(
            "// docs/page.md, docs/page.md#what-it-says-now, docs/page.md#twice-1; other/docs/none.md is not ours\n"
        )
        (root / "README.md").write_text("[a](docs/page.md#a-page) [b](https://x.org/docs/none.md) [c](#top)\n\n# Top\n")
        found, count = check(root)
        problems += [f"a good reference is refused: {problem}" for problem in found]
        if count != 5:
            problems.append(f"{count} references seen, there are 5")
        bad = {
            "src/bad.hpp": ["// docs/none.md", "// docs/page.md#none", "// docs/page.md#not-one", "// (docs/page.md#Twice)"],
            "docs/bad.md": ["[x](none.md)", "[x](page.md#none)", "[x](#none)", "[x](docs/page.md)", "see docs/none.md"],
            "README.md": ["[x](page.md)", "[x](../outside.md)", "[x](docs/page.md#twice-2)"],
        }
        for name, lines in bad.items():
            for line in lines:
                (root / name).write_text(line + "\n")
                if not check(root)[0]:
                    problems.append(f"accepted in {name}: {line}")
            (root / name).unlink()
    return problems


def main(arguments):
    if arguments == ["--self-test"]:
        problems = self_test()
    elif len(arguments) == 1:
        problems, count = check(Path(arguments[0]))
        if count == 0:
            problems.append("no reference found at all: is this the root of the project?")
    else:
        print(__doc__, file=sys.stderr)
        return 2
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
