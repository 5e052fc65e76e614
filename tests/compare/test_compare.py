#!/usr/bin/env python3
"""Tests of tools/compare: what it makes of figures, and runs on tiny sizes with whatever rivals are installed.

    HAWSER_BIN=build/dev/tools/hawser python3 tests/compare/test_compare.py [-v] [Class[.test]...]
"""

import copy
import importlib.util
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

COMPARE = Path(__file__).resolve().parents[2] / "tools" / "compare"
LIMIT_S = 280  # for a run that should end by itself; far beyond what it needs
sys.path.insert(0, str(COMPARE))
import report  # noqa: E402


def turns(*times, iters=500):
    return [
        {"time_us_p50": time, "time_us_p99": 3 * time, "cpu_ns_per_byte": time / 100, "wrong": 0, "iters": iters}
        for time in times
    ]


RESULT = {
    "format": 1,
    "time": "2026-01-01T00:00:00Z",
    "commit": "0123456789ab",
    "machine": {"processor": "P", "processors": 2, "memory": "8 GiB", "kernel": "Linux", "congestion_control": "cubic"},
    "settings": {
        "base": "hawser-tcp", "ranks": [2, 4], "sizes": [4096, 1 << 20], "repeats": 3, "seconds": 1.0, "warmup_small": 50,
        "warmup_large": 5,
    },
    "systems": [
        {"name": "hawser-tcp", "version": "1", "placement": "out"},
        {"name": "gloo", "version": "2", "placement": "in"},
    ],
    "rows": [
        {"ranks": 2, "bytes": 4096, "system": "hawser-tcp", "repeats": turns(10.0, 900.0, 20.0)},
        {"ranks": 2, "bytes": 4096, "system": "gloo", "repeats": turns(100.0, 90.0, 120.0)},
        {"ranks": 2, "bytes": 1 << 20, "system": "gloo", "repeats": turns(700.0, 800.0, 750.0, iters=50)},
    ],
    "left_out": [
        {"system": "hawser-tcp", "reason": "it broke", "ranks": 2, "bytes": 1 << 20},
        {"system": "mpi-tcp", "reason": "no mpirun", "ranks": None, "bytes": None},
    ],
}  # fmt: skip


class Figures(unittest.TestCase):
    def test_sizes(self):
        for text, size in {"4": 4, "4K": 4096, "64k": 65536, "1.5M": 3 << 19, "1GiB": 1 << 30}.items():
            self.assertEqual(report.parse_size(text), size)
        for text in ("", "K", "-4", "4X", "1e3"):
            with self.assertRaises(ValueError):
                report.parse_size(text)
        self.assertEqual(report.size_text(3 << 19), "1.5 MiB")
        self.assertEqual(report.size_text(4), "4 B")

    def test_numbers(self):
        shown = {0.0003456: "0.000346", 0.5: "0.5", 1234.5: "1230", 56789012.0: "56800000", 0.0: "0", None: "-"}
        for value, text in shown.items():
            self.assertEqual(report.number(value), text)

    def test_medians_are_over_repeats(self):
        figures = report.summary(turns(10.0, 900.0, 20.0))
        self.assertEqual((figures["time_us_p50"], figures["time_us_p99"]), (20.0, 60.0))
        self.assertEqual(figures["spread"], 890.0 / 20.0)
        self.assertIsNone(report.summary(turns(1.0, 2.0, iters=99))["time_us_p99"])

    def test_ratios_are_of_the_other_to_the_base(self):
        cells = report.cells_of(RESULT, 2)
        self.assertEqual(report.ratio(RESULT, cells, 4096, "gloo"), 5.0)
        self.assertIsNone(report.ratio(RESULT, cells, 1 << 20, "gloo"), "the base was not measured there")

    def test_tables(self):
        text = report.render(RESULT)
        self.assertIn("2 ranks, time / time of hawser-tcp", text)
        self.assertRegex(text, r"4 KiB +20 +100\n")
        self.assertRegex(text, r"1 MiB +- +750\n")
        self.assertIn("left out: hawser-tcp (2 ranks, 1 MiB): it broke", text)
        self.assertIn("left out: mpi-tcp: no mpirun", text)
        self.assertNotIn("4 ranks", text, "nothing was measured there")
        self.assertIn("| 4 KiB | 20 | 100 |", report.render(RESULT, markdown=True))


def compare(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-B", str(COMPARE), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, **environment},
        check=False,
    )


class Options(unittest.TestCase):
    def test_mistakes_are_told(self):
        for arguments, word in (
            (("--systems", "nccl"), "known are"),
            (("--sizes", "2"), "4 bytes"),
            (("--ranks", "0"), "number of ranks"),
            (("--base", "gloo", "--systems", "hawser"), "none of hawser"),
            (("--add", "x"), "NAME=COMMAND"),
            (("--repeats", "0"), "more than 0"),
            (("--in-place", "--out-of-place"), "not allowed"),
            (("--from", "/nonexistent"), "--from"),
        ):
            result = compare(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn(word, result.stderr, arguments)


class Run(unittest.TestCase):
    TINY = ("--ranks", "2", "--seconds", "0.02", "--repeats", "2", "--warmup", "2")

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_whatever_is_installed(self):
        names = ["hawser-tcp", "gloo", "mpi-tcp", "mpi-shm"]
        kept = self.folder / "result.json"
        run = compare(*self.TINY, "--sizes", "4,64K", "--json", kept)
        self.assertEqual(run.returncode, 0, run.stderr)
        result = json.loads(kept.read_text())
        missing = {left["system"]: left["reason"] for left in result["left_out"] if left["ranks"] is None}
        measured = [system["name"] for system in result["systems"]]
        self.assertEqual(sorted([*measured, *missing]), sorted(names), "each is measured, or left out with a reason")
        self.assertIn("hawser-tcp", measured)
        for name, reason in missing.items():
            self.assertIn(f"left out: {name}: {reason}", run.stdout)
        failed = [left for left in result["left_out"] if left["ranks"] is not None]
        self.assertEqual(failed, [], "a system that can run runs")
        for name in measured:
            for size in (4, 65536):
                rows = [row for row in result["rows"] if (row["system"], row["bytes"], row["ranks"]) == (name, size, 2)]
                self.assertEqual([len(row["repeats"]) for row in rows], [2], (name, size))
                for figures in rows[0]["repeats"]:
                    self.assertEqual(figures["wrong"], 0)
                    self.assertGreater(figures["time_us_p50"], 0)
                    self.assertGreaterEqual(figures["time_us_p99"], figures["time_us_p50"])
                    self.assertGreater(figures["cpu_ns_per_byte"], 0)
        for word in ("commit", "time", "machine", "settings", "command"):
            self.assertTrue(result[word])

        shown = compare("--from", kept)
        self.assertEqual(shown.returncode, 0)
        self.assertEqual(shown.stdout, run.stdout, "a kept result shows the same")

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "no matplotlib")
    def test_plot(self):
        result = copy.deepcopy(RESULT)
        (self.folder / "result.json").write_text(json.dumps(result))
        run = compare("--from", self.folder / "result.json", "--plot", self.folder / "result.png")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual((self.folder / "result.png").read_bytes()[:4], b"\x89PNG")

    def fake(self, name, body):
        """A `hawser` that says what the shell script has it say."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def figures(self, wrong):
        row = {"time_us_p50": 100.0, "time_us_p99": 200.0, "cpu_ns_per_byte": 1.0, "wrong": wrong, "iters": 5}
        return f"echo '{json.dumps(row)}'"

    def test_wrong_elements_fail_the_run(self):
        program = self.fake("wrong", self.figures(3))
        run = compare(*self.TINY, "--systems", "hawser", "--hawser", program, "--sizes", "4")
        self.assertEqual(run.returncode, 1)
        self.assertIn("3 wrong elements", run.stdout)

    def test_turns_are_interleaved(self):
        log = self.folder / "log"
        chosen = []
        for name in ("a", "b", "c"):
            program = self.fake(name, f'case "$*" in *--min-bytes*) echo {name} >>{log} ;; esac\n' + self.figures(0))
            chosen += ["--add", f"{name}={program}"]
        run = compare(*self.TINY, "--systems", "", *chosen, "--base", "b", "--sizes", "64")
        self.assertEqual(run.returncode, 0, run.stderr)
        # Each is tried once, then measured once to learn how many calls fill a turn.
        self.assertEqual(log.read_text().split(), list("abc" + "aabbcc" + "abc"))
        self.assertIn("time / time of b", run.stdout)

    def test_a_turn_without_end_is_given_up(self):
        program = self.fake("slow", 'case "$*" in *"--min-bytes 64 "*) exec sleep 1000 ;; esac\n' + self.figures(0))
        run = compare(*self.TINY, "--systems", "hawser", "--hawser", program, "--sizes", "64", "--limit", "0.5")
        self.assertEqual(run.returncode, 1)
        self.assertIn("took longer than", run.stdout)

    def test_a_hawser_that_is_not_there(self):
        run = compare(*self.TINY, "--systems", "hawser", "--hawser", self.folder / "none", "--sizes", "4")
        self.assertEqual(run.returncode, 1)
        self.assertIn("not found", run.stdout)


class Keep(unittest.TestCase):
    def keep(self, folder, *command):
        file = Path(folder) / "kept.json"
        words = [sys.executable, "-B", str(COMPARE / "keep.py"), str(file), "--note", "N", "--", *map(str, command)]
        run = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        return run, file

    def test_lines_are_kept_with_machine_and_commit(self):
        with tempfile.TemporaryDirectory() as folder:
            hawser = os.environ.get("HAWSER_BIN", "hawser")
            run, file = self.keep(folder, hawser, "bench", "barrier", "--spawn", 2, "--iters", 2, "--json")
            self.assertEqual(run.returncode, 0, run.stderr)
            result = json.loads(file.read_text())
        self.assertEqual((result["format"], result["kind"], result["note"]), (1, "bench", "N"))
        self.assertIn("bench barrier --spawn 2", result["command"])
        self.assertEqual([row["op"] for row in result["rows"]], ["barrier"])
        self.assertEqual(
            set(result["machine"]), {"processor", "processors", "memory", "kernel", "congestion_control"}
        )

    def test_what_fails_or_is_no_json_is_not_kept(self):
        for command in (("false",), ("echo", "no object"), ("echo", "[1]"), ("true",)):
            with tempfile.TemporaryDirectory() as folder:
                run, file = self.keep(folder, *command)
                self.assertEqual(run.returncode, 1, command)
                self.assertFalse(file.exists(), command)


if __name__ == "__main__":
    unittest.main()
