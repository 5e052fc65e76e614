#!/usr/bin/env python3
"""Checks the kept results in docs/results against docs/results/README.md: fields, names, commits; and that each is quoted.

    results.py ROOT
    results.py --self-test
"""

import json
import re
import sys
import tempfile
from pathlib import Path

MACHINE = {"processor", "processors", "memory", "kernel", "congestion_control"}
COMMON = {"format", "kind", "time", "commit", "machine", "command", "note", "rows"}
MORE = {"bench": set(), "kernels": set(), "compare": {"settings", "systems", "left_out"}}


def findings_in(path, quoted):
    if not re.fullmatch(r"\d{4}-\d\d-\d\d-[a-z0-9-]+", path.stem):
        yield "is not named by date and subject, as in 2026-01-31-tcp.json"
    if path.name not in quoted:
        yield "is quoted nowhere in docs/performance.md"
    try:
        result = json.loads(path.read_text())
    except ValueError as error:
        yield f"is no JSON: {error}"
        return
    if not isinstance(result, dict) or result.get("format") != 1 or result.get("kind") not in MORE:
        yield f"is none of format 1, kind {', '.join(MORE)}"
        return
    for name in sorted((COMMON | MORE[result["kind"]]) - set(result)):
        yield f"lacks {name}"
    if not re.fullmatch(r"[0-9a-f]{7,40}", str(result.get("commit"))):
        yield f"is of the commit {result.get('commit')!r}, which nobody can look up"
    if not isinstance(result.get("machine"), dict) or MACHINE - set(result["machine"]):
        yield "does not name its machine"
    if not result.get("rows"):
        yield "has no rows"


def check(root):
    folder = root / "docs" / "results"
    page = root / "docs" / "performance.md"
    quoted = page.read_text() if page.exists() else ""
    files = sorted(folder.glob("*.json"))
    return [f"docs/results/{path.name} {finding}" for path in files for finding in findings_in(path, quoted)], len(files)


def self_test():
    good = {
        "format": 1, "kind": "bench", "time": "", "commit": "0123456789ab", "machine": dict.fromkeys(MACHINE, ""), "command": "",
        "note": "", "rows": [{}],
    }  # fmt: skip
    cases = [
        ("2026-01-31-a.json", good, None),
        ("a.json", good, "named by date"),
        ("2026-01-31-unquoted.json", good, "quoted nowhere"),
        ("2026-01-31-a.json", {**good, "format": 2}, "none of format 1"),
        ("2026-01-31-a.json", {**good, "commit": "0123456789ab+"}, "nobody can look up"),
        ("2026-01-31-a.json", {**good, "machine": {}}, "name its machine"),
        ("2026-01-31-a.json", {**good, "rows": []}, "no rows"),
        ("2026-01-31-a.json", {name: value for name, value in good.items() if name != "note"}, "lacks note"),
        ("2026-01-31-a.json", {**good, "kind": "compare", "settings": {}, "systems": []}, "lacks left_out"),
    ]
    failed = 0
    for name, result, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "docs" / "results"
            results.mkdir(parents=True)
            (results / name).write_text(json.dumps(result))
            (results.parent / "performance.md").write_text("2026-01-31-a.json, a.json")
            found, _ = check(Path(folder))
        if (expected is None and found) or (expected and not (len(found) == 1 and expected in found[0])):
            failed += 1
            print(f"{name}: expected {expected or 'nothing'}, found {found}")
    print(f"{len(cases) - failed} of {len(cases)} as expected")
    return 1 if failed else 0


def main(argv):
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if argv[1] == "--self-test":
        return self_test()
    findings, files = check(Path(argv[1]))
    print("\n".join([*findings, f"{files} results, {len(findings)} findings"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
