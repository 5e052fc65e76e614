#!/usr/bin/env python3
"""Checks what compilers do not: which layer includes which, that the pure layers stay pure, that notes of open work name
their kind.

    layers.py ROOT         checks a source tree; one line a finding, exit 1 if there are any
    layers.py --self-test  checks that each rule finds what it forbids, and only that
"""

import re
import sys
import tempfile
from pathlib import Path

# Layer: the other layers of src/ whose headers it may include. docs/architecture.md has the picture.
LAYERS = {
    "base": set(),
    "wire": {"base"},
    "plan": {"base"},
    "kernels": {"base"},
    "io": {"base"},
    "codec": {"kernels", "base"},
    "protocol": {"wire", "plan", "base"},
    "runtime": {"wire", "plan", "protocol", "kernels", "codec", "io", "base"},
    "outer": {"runtime", "codec", "kernels", "base"},
    "api": {"outer", "runtime", "base"},
}
# These see of the library what every user sees: include/.
OUTSIDE = ("tools", "bindings", "stress", "examples")
# These measure a layer itself, so they see src/ as its tests do.
BENCHMARKS = ("tools", "benchmarks")

# Layers that decide: time and random numbers reach them as arguments, so that the simulator runs the very same code, and
# nothing in them depends on the order of a hash table.
PURE = ("wire", "plan", "protocol")
IMPURE_HEADERS = re.compile(
    r"chrono|ctime|time\.h|thread|mutex|shared_mutex|condition_variable|future|semaphore|latch|barrier|stop_token|atomic|random|"
    r"iostream|fstream|filesystem|unordered_map|unordered_set|unistd\.h|sys/.*|netinet/.*|arpa/.*|netdb\.h|poll\.h|pthread\.h|"
    r"uv\.h|spdlog/.*|base/log\.hpp"
)
IMPURE_NAMES = re.compile(
    r"\bstd::(chrono|thread|jthread|mutex|\w+_mutex|condition_variable\w*|async|future|atomic\w*|random_device|mt19937\w*|"
    r"unordered_\w+|cout|cerr|cin|rand|srand|time|clock|getenv|this_thread|filesystem)\b"
    r"|\b(unordered_(?:map|set|multimap|multiset)|random_device|thread_local|volatile|uv_\w+|pthread_\w+|spdlog)\b"
    r"|(?<![\w.:>])((getenv|setenv|socket|rand|srand|getrandom|clock_gettime|gettimeofday|usleep|nanosleep|sleep|printf|fprintf|"
    r"getpid)\s*\(|time\s*\(\s*(nullptr|NULL|0|&)|clock\s*\(\s*\))"
)

CODE_SUFFIXES = {".c", ".cc", ".cpp", ".h", ".hpp"}
TEXT_SUFFIXES = CODE_SUFFIXES | {".py", ".pyi", ".sh", ".cmake", ".txt"}
SCANNED = ("src", "include", "tests", "cmake", "docs") + OUTSIDE

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
OPEN_WORK = re.compile(r"\bTO" r"DO\b(?!\([a-z]+\):)|\bFIX" r"ME\b")
NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)


def blank(match):
    """Blanks of the same shape, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", match.group(0))


def includes(text):
    for number, line in enumerate(text.splitlines(), 1):
        if match := INCLUDE.match(line):
            yield number, match.group(1)


def check_layer(layer, text):
    """Findings in one file of src/<layer>, as (line, sentence)."""
    for number, header in includes(text):
        first = header.split("/")[0]
        if ".." in Path(header).parts:
            yield number, f"includes {header}: name headers from src/, as in base/status.hpp"
        elif first in LAYERS and first != layer and first not in LAYERS[layer]:
            yield number, f"{layer} includes {header}, but may only include {', '.join(sorted(LAYERS[layer])) or 'nothing'}"
        if layer in PURE and IMPURE_HEADERS.fullmatch(header):
            yield number, f"{layer} is pure, but includes {header}"
    if layer in PURE:
        code = NOT_CODE.sub(blank, text)
        for match in IMPURE_NAMES.finditer(code):
            yield code.count("\n", 0, match.start()) + 1, f"{layer} is pure, but uses {match.group(0).split('(')[0]}"


def check_outside(folder, text):
    for number, header in includes(text):
        parts = Path(header).parts
        if parts[0] in LAYERS or "src" in parts:
            yield number, f"{folder} includes {header}, but sees only include/"


def check_any(path, text):
    for number, line in enumerate(text.splitlines(), 1):
        if OPEN_WORK.search(line):
            yield number, "open work without its kind: write TO" "DO(kind): ..."
    if path.suffix in CODE_SUFFIXES and not text.lstrip().startswith(("//", "/*")):
        yield 1, "a file opens with a paragraph: purpose, method, which thread runs it"
    if path.suffix == ".hpp" and "#pragma once" not in text:
        yield 1, "a header needs #pragma once"


def check_tree(root):
    findings, files = [], 0
    for folder in SCANNED:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in TEXT_SUFFIXES or not path.is_file() or path.resolve() == Path(__file__).resolve():
                continue
            files += 1
            relative = path.relative_to(root)
            text = path.read_text(encoding="utf-8")
            found = list(check_any(path, text))
            if path.suffix in CODE_SUFFIXES and folder == "src" and len(relative.parts) > 2:
                if relative.parts[1] in LAYERS:
                    found += check_layer(relative.parts[1], text)
                else:
                    found.append((1, f"src/{relative.parts[1]} is no layer: add it to tests/layers.py and docs/architecture.md"))
            if path.suffix in CODE_SUFFIXES and folder in OUTSIDE and relative.parts[:2] != BENCHMARKS:
                found += check_outside(folder, text)
            findings += [f"{relative}:{number}: {sentence}" for number, sentence in sorted(found)]
    return findings, files


SELF_TEST = [  # path, text, a word of the one finding expected, or None
    ("src/wire/a.cpp", '// A.\n#include "base/ids.hpp"\n#include "wire/frame.hpp"\n', None),
    ("src/wire/b.cpp", '// B.\n#include "runtime/loop.hpp"\n', "includes runtime/loop.hpp"),
    ("src/base/c.hpp", '// C.\n#pragma once\n#include "plan/ring.hpp"\n', "may only include nothing"),
    ("src/api/d.cpp", '// D.\n#include "io/loop.hpp"\n', "api includes io/loop.hpp"),
    ("src/plan/e.cpp", "// E: std::thread in a comment is no use of it.\n#include <vector>\n", None),
    ("src/plan/f.cpp", "// F.\n#include <chrono>\n", "includes chrono"),
    ("src/protocol/round/g.cpp", "// G.\nvoid g() { std::unordered_map<int, int> m; }\n", "uses std::unordered_map"),
    ("src/protocol/h.cpp", '// H.\nauto h() { return getenv("X"); }\n', "uses getenv"),
    ("src/protocol/i.cpp", "// I.\nstd::mutex lock;\n", "uses std::mutex"),
    ("src/wire/j.cpp", "// J.\nlong j() { return time(nullptr); }\n", "uses time"),
    ("src/wire/k.cpp", "// K.\nvoid k(Link& link) { link.send(3); }\n", None),
    ("src/wire/l.cpp", "// L.\nauto l = std::random_device{}();\n", "uses std::random_device"),
    ("src/runtime/m.cpp", "// M.\n#include <thread>\n#include <unordered_map>\n", None),
    ("src/wire/n.cpp", '// N.\n#include "../base/ids.hpp"\n', "name headers from src/"),
    ("src/other/o.cpp", "// O.\n", "is no layer"),
    ("tools/p.cpp", '// P.\n#include "base/status.hpp"\n', "sees only include/"),
    ("tools/q.cpp", '// Q.\n#include <hawser/hawser.h>\n#include "table.hpp"\n', None),
    ("tools/benchmarks/p.cpp", '// P.\n#include "kernels/kernels.hpp"\n', None),
    ("examples/r.c", '// R.\n#include "../src/base/ids.hpp"\n', "sees only include/"),
    ("src/io/s.cpp", "// S.\n// TO" "DO: later\n", "open work"),
    ("src/io/t.cpp", "// T.\n// TO" "DO(speed): later\n", None),
    ("src/io/u.cpp", "int u;\n", "opens with a paragraph"),
    ("src/io/v.hpp", "// V.\nint v();\n", "#pragma once"),
]


def self_test():
    failed = 0
    for path, text, expected in SELF_TEST:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / path
            file.parent.mkdir(parents=True)
            file.write_text(text, encoding="utf-8")
            findings, _ = check_tree(Path(folder))
        ok = not findings if expected is None else len(findings) == 1 and expected in findings[0]
        if not ok:
            failed += 1
            print(f"{path}: expected {expected or 'nothing'}, found {findings}")
    print(f"{len(SELF_TEST) - failed} of {len(SELF_TEST)} rules as expected")
    return 1 if failed else 0


def main(argv):
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if argv[1] == "--self-test":
        return self_test()
    findings, files = check_tree(Path(argv[1]))
    if not files:
        print(f"no source found in {argv[1]}", file=sys.stderr)
        return 2
    print("\n".join(findings + [f"{files} files, {len(findings)} findings"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
