#!/usr/bin/env python3
"""The binary interface of libhawser, checked from outside. Each sub-command is one test; see --help of each.

    layout   sizes, offsets and enum values of the public headers against a golden file (--update rewrites it)
    symbols  the libraries define each declared function, and the shared one exports nothing else
    outside  installs into a folder, moves it, and builds and runs a C99 project against it by CMake and by pkg-config
"""

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def run(*command, **options):
    """Runs a command; its whole output only when it fails."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(part) for part in command)}\nexit {done.returncode}\n{done.stdout}")
    return done.stdout


def headers_text(include):
    """All public headers without comments."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path(include, "hawser").glob("*.h")))
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


def declared_functions(include):
    return set(re.findall(r"HAWSER_API\s+[^;(]*?\b(hawser_\w+)\s*\(", headers_text(include)))


def layout_program(include):
    """A C program that prints the layout of every struct and the value of every enumerator in the headers."""
    text = headers_text(include)
    lines = []
    for tag, body, name in re.findall(r"typedef\s+struct\s+(\w+)\s*\{(.*?)\}\s*(\w+)\s*;", text, re.DOTALL):
        if name != f"{tag}_t":
            sys.exit(f"struct {tag} is {name}, not {tag}_t")
        lines.append(f'printf("{name} size %zu\\n", sizeof({name}));')
        for field in filter(None, (part.strip() for part in body.split(";"))):
            field = re.sub(r"\[[^\]]*\]$", "", field).split()[-1].lstrip("*")
            lines.append(
                f'printf("{name}.{field} at %zu size %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));'
            )
    for body in re.findall(r"typedef\s+enum\s+\w+\s*\{(.*?)\}\s*\w+\s*;", text, re.DOTALL):
        for enumerator in re.findall(r"\b(HAWSER_[A-Z0-9_]+)\s*=", body):
            lines.append(f'printf("{enumerator} = %d\\n", (int){enumerator});')
    lines.append('#define PRINT(name, value, category, sentence) printf("HAWSER_%s = %d\\n", #name, (int)HAWSER_##name);')
    lines.append("HAWSER_STATUS_LIST(PRINT)")
    body = "\n".join(lines)
    return f"#include <hawser/hawser.h>\n#include <stdio.h>\nint main(void) {{\n{body}\nreturn 0;\n}}\n"


def layout(arguments):
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "layout.c"), Path(folder, "layout")
        source.write_text(layout_program(arguments.include), encoding="utf-8")
        run(arguments.compiler, "-std=c99", "-I", arguments.include, source, "-o", program)
        found = run(program)
    golden = Path(arguments.golden)
    if arguments.update:
        golden.write_text(found, encoding="utf-8")
        return 0
    expected = golden.read_text(encoding="utf-8")
    if found == expected:
        print(f"{len(found.splitlines())} lines as in {golden.name}")
        return 0
    print("".join(difflib.unified_diff(expected.splitlines(True), found.splitlines(True), str(golden), "headers")))
    print("Published structs grow at the end only, published values never change. If that holds: abi.py layout --update ...")
    return 1


def defined(nm, library, *options):
    symbols = set()
    for line in run(nm, "--defined-only", "--extern-only", "--format=posix", *options, library).splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[1] != "A":  # A: the name of the symbol version
            symbols.add(fields[0].split("@")[0])
    return symbols


def symbols(arguments):
    declared = declared_functions(arguments.include)
    exported = defined(arguments.nm, arguments.shared, "--dynamic")
    archived = {name for name in defined(arguments.nm, arguments.static) if name.startswith("hawser_")}
    wrong = [f"exported, but in no header: {name}" for name in sorted(exported - declared)]
    wrong += [f"declared, but not in the shared library: {name}" for name in sorted(declared - exported)]
    wrong += [f"declared, but not in the static library: {name}" for name in sorted(declared - archived)]
    print("\n".join(wrong + [f"{len(declared)} functions declared, {len(exported)} symbols exported"]))
    return 1 if wrong or not declared else 0


def outside(arguments):
    with tempfile.TemporaryDirectory() as folder:
        first, prefix, build = Path(folder, "first"), Path(folder, "moved", "hawser"), Path(folder, "build")
        run(arguments.cmake, "--install", arguments.build, "--prefix", first, "--config", arguments.config)
        prefix.parent.mkdir()
        first.rename(prefix)  # nothing installed may know where it was installed
        (pkgconfig,) = {path.parent for path in prefix.rglob("hawser.pc")}
        libraries = pkgconfig.parent
        environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "PKG_CONFIG_PATH": str(pkgconfig)}
        outputs = []

        run(
            arguments.cmake, "-G", arguments.generator, "-S", arguments.project, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_C_COMPILER={arguments.compiler}",
        )  # fmt: skip
        package = re.search(r"Hawser_DIR:PATH=(.*)", Path(build, "CMakeCache.txt").read_text(encoding="utf-8")).group(1)
        if prefix not in Path(package).parents:
            sys.exit(f"find_package found another Hawser: {package}")
        run(arguments.cmake, "--build", build)
        outputs += [run(build / "outside_shared", env=environment), run(build / "outside_static")]

        strict = [arguments.compiler, "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
        flags = run("pkg-config", "--cflags", "--libs", "hawser", env=environment).split()
        run(*strict, Path(arguments.project, "main.c"), *flags, "-o", build / "pkg_shared")
        outputs.append(run(build / "pkg_shared", env=environment))

        # The archive by name: with both in one folder, -lhawser means the shared one.
        flags = run("pkg-config", "--static", "--cflags", "--libs", "hawser", env=environment).split()
        flags = [str(libraries / "libhawser.a") if flag == "-lhawser" else flag for flag in flags]
        run(*strict, "-DHAWSER_STATIC", Path(arguments.project, "main.c"), *flags, "-o", build / "pkg_static")
        outputs.append(run(build / "pkg_static"))

        version = run("pkg-config", "--modversion", "hawser", env=environment).strip()
        if {output.splitlines()[-1] for output in outputs} != {f"hawser {version}"}:
            sys.exit(f"hawser.pc says {version}, the programs say {outputs}")

        command = prefix / "bin" / "hawser"
        if command.exists() and shutil.which(command):  # finds its library without being told where
            run(command, "--version", env={k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"})
    print(f"{len(outputs)} programs built and run against the installed tree, version {version}")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function, options in (
        (layout, ["--compiler", "--include", "--golden"]),
        (symbols, ["--nm", "--include", "--shared", "--static"]),
        (outside, ["--build", "--config", "--compiler", "--cmake", "--generator", "--project"]),
    ):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        for option in options:
            command.add_argument(option, required=True)
        if function is layout:
            command.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    return arguments.function(arguments)


if __name__ == "__main__":
    sys.exit(main())
