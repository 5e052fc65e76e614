"""The package is typed: its sources and a user's program pass mypy --strict, and the stub is what the extension has."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import hawser
import pytest
from hawser import _hawser

CACHE = Path(tempfile.gettempdir()) / f"hawser-mypy-{os.getuid()}"

PROGRAM = """
from __future__ import annotations
import array
import hawser

async def use(comm: hawser.Communicator, x: array.array[float]) -> None:
    in_place: array.array[float] = comm.all_reduce(x, "sum")
    both: tuple[array.array[float], hawser.OpInfo] = comm.all_reduce(x, return_info=True)
    work: hawser.Work[array.array[float]] = comm.broadcast(x, 0, async_op=True)
    awaited: array.array[float] = await work
    info: hawser.OpInfo | None = work.info
    many: tuple[list[array.array[float]], hawser.ManyInfo] = comm.all_reduce_many([x, x], "sum", in_flight=4)
    uniform: bool = comm.all_reduce_many([x], uniform=True, compression=["int8"])[1].uniform
    comm.barrier()
    view: hawser.View = comm.view
    names: list[str] = [member.name for member in comm.members]
    sent: int = comm.metrics().bytes_sent
    comm.all_reduce(x, "avg", compression="int8", weight=2.0)
    comm.all_reduce(x, compression=hawser.Compression("int4", block=64, rounding="stochastic", seed=1))
    with hawser.SharedState({"x": x}, revision=1) as state:
        revision: int = state.sync(comm, "receive_only").revision
    with hawser.DiLoCo(comm, {"x": x}, compression="int8", error_feedback=True, on_non_finite="fail") as outer:
        participants: int = outer.step(weight=3).participants

with hawser.Coordinator(heartbeat_ms=100) as coordinator, hawser.connect(coordinator, policy="strict") as comm:
    assert comm.rank < comm.size
    groups: int = len(coordinator.report()["groups"]) + len(hawser.coordinator_report(coordinator.address, timeout=1))
"""

MISTAKES = """
import hawser
comm = hawser.connect("a:1", policy="sometimes")
comm.all_reduce(bytearray(3), "median")
rank: str = comm.rank
work: hawser.Work[int] = comm.all_reduce(bytearray(3))
comm.all_reduce(bytearray(3), compression="int9")
hawser.SharedState({}).sync(comm, "majority")
"""


def mypy(*arguments: object) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    return subprocess.run(
        [sys.executable, "-m", "mypy", f"--cache-dir={CACHE}", *map(str, arguments)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_the_package_says_that_it_is_typed():
    assert (Path(hawser.__file__).parent / "py.typed").exists()


def test_a_program_passes(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = mypy("--strict", "--no-error-summary", tmp_path / "program.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_mistakes_are_found(tmp_path):
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    done = mypy("--strict", "--no-error-summary", tmp_path / "mistakes.py")
    lines = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error: " in line}
    assert lines == {3, 4, 5, 6, 7, 8}, done.stdout


def test_the_sources_pass():
    modules = [path.stem for path in Path(hawser.__file__).parent.glob("*.py")]
    if importlib.util.find_spec("torch") is None:
        modules.remove("torch")
    names = [argument for module in modules for argument in ("-m", f"hawser.{module}".removesuffix(".__init__"))]
    done = mypy("--strict", "--no-error-summary", *names)
    assert done.returncode == 0, done.stdout + done.stderr


def stub_of(body: list[ast.stmt]) -> dict[str, object]:
    """Names to parameter names of functions, to None of attributes and properties, to the same again of classes."""
    names: dict[str, object] = {}
    for item in body:
        if isinstance(item, ast.AnnAssign) and "Alias" in ast.unparse(item.annotation):
            continue  # a name of the stub alone
        if isinstance(item, ast.ClassDef):
            names[item.name] = stub_of(item.body)
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            names[item.target.id] = None
        elif isinstance(item, ast.FunctionDef):
            is_property = any(isinstance(mark, ast.Name) and mark.id == "property" for mark in item.decorator_list)
            names[item.name] = None if is_property else [argument.arg for argument in item.args.args]
    return names


def extension_of(scope: object) -> dict[str, object]:
    """The same of what the extension has, from the signatures that nanobind keeps."""
    names: dict[str, object] = {}
    for name, value in vars(scope).items():
        if isinstance(value, type):
            names[name] = extension_of(value)
        elif hasattr(value, "__nb_signature__"):
            ((signature, *_),) = value.__nb_signature__
            (function,) = ast.parse(signature + ": ...").body
            assert isinstance(function, ast.FunctionDef)
            names[name] = [argument.arg for argument in function.args.args]
        elif not name.startswith("__"):
            names[name] = None
    return names


def test_the_stub_is_what_the_extension_has():
    stub = Path(hawser.__file__).with_name("_hawser.pyi").read_text()
    assert stub_of(ast.parse(stub).body) == extension_of(_hawser)


def test_all_is_everything_public():
    public = {name for name, value in vars(hawser).items() if not name.startswith("_") and hasattr(value, "__module__")}
    assert {name for name in public if getattr(hawser, name).__module__.startswith("hawser")} == set(hawser.__all__)
