#!/usr/bin/env python3
"""Checks that the kernels compiled for AVX2 and AVX-512 define nothing the linker may merge with code of other files.

    symbols.py NM OBJECT...

A weak function in them, such as an inline function of a header that was not inlined, may be the copy which the linker keeps
for the whole program: an illegal instruction on processors without it. Weak data, of sanitizers for instance, does no harm.
"""

import re
import subprocess
import sys

VARIANTS = ("avx2", "avx512")


def main(argv):
    if len(argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    nm, objects = argv[1], [path for path in argv[2:] if re.search(r"\b(avx2|avx512)\.cpp\.", path)]
    if len(objects) != len(VARIANTS):
        print(f"expected one object file of each of {VARIANTS}, got {objects}")
        return 1
    bad = 0
    for path in objects:
        listing = subprocess.run([nm, "-C", "--defined-only", path], check=True, capture_output=True, text=True).stdout
        symbols = [line.split(" ", 2)[1:] for line in listing.splitlines()]
        if not symbols and "x86" not in subprocess.run(["uname", "-m"], capture_output=True, text=True).stdout:
            continue
        if not any(name.endswith("_table") for _, name in symbols):
            print(f"{path}: no table in it")
            bad += 1
        for kind, name in symbols:
            if kind == "W":
                print(f"{path}: mergeable: {name}")
                bad += 1
    print(f"{len(objects)} object files, {bad} findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
