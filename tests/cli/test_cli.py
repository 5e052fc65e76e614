#!/usr/bin/env python3
"""Black-box tests of the `hawser` command.

    HAWSER_BIN=build/dev/tools/hawser python3 tests/cli/test_cli.py [-v] [Class[.test]...]

Only exit codes, standard output and the behaviour of processes are looked at; of standard error only the words that a user
needs. Ports are chosen by the kernel, everything is on loopback, processes are ended by the pid they were started with.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HAWSER = os.environ.get("HAWSER_BIN", "hawser")
LIMIT_S = 300  # for a command that should end by itself; far beyond what it needs

OK, FAILED, USAGE, NO_COORDINATOR, RESOURCE = range(5)

BENCH_KEYS = {
    "op", "bytes", "count", "dtype", "redop", "ranks", "strands", "in_flight", "transport", "compression", "time_us_p50",
    "time_us_p99", "algbw_gbs", "busbw_gbs", "wrong", "cpu_ns_per_byte",
}  # fmt: skip
STRESS_KEYS = {
    "ops", "wrong", "hangs", "disagreements", "kills", "stops", "joins", "leaves", "coordinator_kills", "recovery_ms_p50",
    "recovery_ms_p99", "recovery_ms_max", "seed", "coordinator_stops", "strand_kills", "cuts", "starvations",
}  # fmt: skip


def environment(**extra):
    values = {name: value for name, value in os.environ.items() if not name.startswith("HAWSER_")}
    values.update(extra)
    return values


def run(*arguments, **extra):
    return subprocess.run(
        [HAWSER, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT_S, env=environment(**extra), check=False
    )


def start(*arguments, **extra):
    return subprocess.Popen(
        [HAWSER, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**extra)
    )


@contextlib.contextmanager
def running(*arguments, **extra):
    """A started command that does not outlive the test."""
    process = start(*arguments, **extra)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextlib.contextmanager
def coordinator(*arguments):
    with running("coordinator", "--listen", "127.0.0.1:0", *arguments) as process:
        address = process.stdout.readline().strip()
        yield process, address


@contextlib.contextmanager
def silent_port():
    """An address at which nothing answers: bound, so that nobody else gets it, but not listening."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


def children_of(pid):
    with contextlib.suppress(FileNotFoundError):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    return []


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def poll_until(condition, seconds, what):
    """Looks at the state of other processes, of which there is no event to wait for."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)
    return result


def has_descriptor_3(pid):
    """A child of `stress` has its report pipe there, so it has been executed."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/3").startswith("pipe:")
    return False


class Options(unittest.TestCase):
    def test_help_has_examples_and_exit_codes(self):
        for command in ([], ["coordinator"], ["bench"], ["stress"], ["info"]):
            with self.subTest(command=command):
                result = run(*command, "--help")
                self.assertEqual(result.returncode, OK)
                self.assertIn("Examples:", result.stdout)
                self.assertIn("Exit codes:", result.stdout)
                self.assertNotIn("--child", result.stdout)

    def test_version(self):
        result = run("--version")
        self.assertEqual(result.returncode, OK)
        self.assertRegex(result.stdout, r"^hawser \d+\.\d+\.\d+\n$")

    def test_wrong_options_are_usage_errors(self):
        for arguments in (
            [],
            ["no-such-command"],
            ["--no-such-option"],
            ["bench"],
            ["bench", "all-to-nobody", "--spawn", "2"],
            ["bench", "all-reduce"],
            ["bench", "all-reduce", "--spawn", "0"],
            ["bench", "all-reduce", "--spawn", "two"],
            ["bench", "all-reduce", "--spawn", "-1"],
            ["bench", "all-reduce", "--spawn", "2", "--dtype", "f33"],
            ["bench", "all-reduce", "--spawn", "2", "--op", "average"],
            ["bench", "all-reduce", "--spawn", "2", "--min-bytes", "1X"],
            ["bench", "all-reduce", "--spawn", "2", "--min-bytes", "-5"],
            ["bench", "all-reduce", "--spawn", "2", "--min-bytes", "2M", "--max-bytes", "1M"],
            ["bench", "all-reduce", "--spawn", "2", "--factor", "1"],
            ["bench", "all-reduce", "--spawn", "2", "--iters", "0"],
            ["bench", "all-reduce", "--spawn", "2", "--in-flight", "0"],
            ["bench", "all-reduce", "--spawn", "2", "--strands", "65"],
            ["bench", "all-reduce", "--spawn", "2", "--transport", "pigeon"],
            ["bench", "all-reduce", "--spawn", "2", "--coordinator", "127.0.0.1:1"],
            ["stress", "--spawn", "0"],
            ["stress", "--seconds", "0"],
            ["stress", "--kill-every", "-1"],
            ["stress", "--seed", "x"],
            ["stress", "--max-bytes", "4"],
            ["coordinator", "--heartbeat-ms", "soon"],
            ["info", "--all"],
        ):
            with self.subTest(arguments=arguments):
                result = run(*arguments)
                self.assertEqual(result.returncode, USAGE, result.stderr)
                self.assertNotEqual(result.stderr.strip(), "")
                self.assertEqual(result.stdout, "")

    def test_what_cannot_be_compressed_is_named(self):
        for option, word in (
            (["--compression", "int9"], "int9"),
            (["--compression", "int8", "--dtype", "f32,f64"], "f64"),
            (["--compression", "int8", "--op", "max"], "max"),
            (["--compression", "int8", "--block", 48], "48"),
            (["--compression", "bf16", "--block", 64], "64"),
            (["--compression", "bf16", "--rounding", "down"], "down"),
        ):
            with self.subTest(option=option):
                result = run("bench", "all-reduce", "--spawn", 2, *option)
                self.assertEqual(result.returncode, USAGE)
                self.assertIn(word, result.stderr)
                self.assertEqual(result.stdout, "")
        result = run("bench", "broadcast", "--spawn", 2, "--compression", "int8")
        self.assertEqual(result.returncode, USAGE)
        self.assertIn("all-reduce", result.stderr)


class Coordinator(unittest.TestCase):
    def check_ends_cleanly_on(self, end_signal):
        with coordinator() as (process, address):
            host, _, port = address.rpartition(":")
            self.assertEqual(host, "127.0.0.1")
            self.assertGreater(int(port), 0)
            with socket.create_connection((host, int(port)), timeout=10):
                pass
            process.send_signal(end_signal)
            self.assertEqual(process.wait(timeout=LIMIT_S), OK)

    def test_sigterm_ends_it_cleanly(self):
        self.check_ends_cleanly_on(signal.SIGTERM)

    def test_sigint_ends_it_cleanly(self):
        self.check_ends_cleanly_on(signal.SIGINT)

    def test_json_address(self):
        with running("coordinator", "--listen", "127.0.0.1:0", "--json") as process:
            address = json.loads(process.stdout.readline())["address"]
            self.assertRegex(address, r"^127\.0\.0\.1:\d+$")
            process.terminate()
            self.assertEqual(process.wait(timeout=LIMIT_S), OK)

    def test_address_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            result = run("coordinator", "--listen", address)
        self.assertEqual(result.returncode, RESOURCE)
        self.assertIn(address, result.stderr)
        self.assertEqual(result.stdout, "")

    def test_address_that_does_not_parse(self):
        for address in ("nonsense", "127.0.0.1:99999", "127.0.0.1:-1", "[::1:0"):
            with self.subTest(address=address):
                result = run("coordinator", "--listen", address)
                self.assertEqual(result.returncode, USAGE, result.stderr)
                self.assertEqual(result.stdout, "")

    def test_settings_that_contradict(self):
        result = run("coordinator", "--listen", "127.0.0.1:0", "--heartbeat-ms", 1000, "--peer-timeout-ms", 1000)
        self.assertEqual(result.returncode, USAGE, result.stderr)


class Status(unittest.TestCase):
    def report(self, address):
        result = run("status", address, "--json")
        self.assertEqual(result.returncode, OK, result.stderr)
        return json.loads(result.stdout)

    def test_nobody_is_there(self):
        with coordinator("--heartbeat-ms", 100) as (_, address):
            report = self.report(address)
            self.assertEqual((report["address"], report["peers"], report["groups"]), (address, 0, []))
            self.assertEqual((report["heartbeat_ms"], report["peer_timeout_ms"]), (100, 600))
            self.assertIn(f"coordinator {address}", run("status", address).stdout)

    def test_who_waits_for_whom(self):
        with coordinator() as (_, address), running("bench", "all-reduce", "--coordinator", address, "--min-size", 2):
            report = poll_until(lambda: (r := self.report(address))["groups"] and r["groups"][0]["others"] and r, 30, "a peer comes")
            (group,) = report["groups"]
            self.assertEqual((group["view"], group["members"], len(group["others"])), (0, [], 1))
            # It says Hello, then Join.
            poll_until(lambda: "min_size = 2" in self.report(address)["groups"][0]["others"][0]["why"], 30, "it waits for others")

    def test_members_their_rates_and_who_is_slow(self):
        ranks = ["bench", "all-reduce", "--min-bytes", "64K", "--max-bytes", "64K", "--iters", 100000000, "--min-size", 2]
        with coordinator("--heartbeat-ms", 50, "--peer-timeout-ms", 60000) as (_, address), \
             running(*ranks, "--coordinator", address), running(*ranks, "--coordinator", address) as second:  # fmt: skip
            def members():
                groups = self.report(address)["groups"]
                return groups[0]["members"] if groups else []

            moving = poll_until(lambda: len(m := members()) == 2 and all(one["ops_per_s"] for one in m) and m, 60, "rates")
            self.assertEqual([one["rank"] for one in moving], [0, 1])
            self.assertEqual({one["state"] for one in moving}, {"member"})
            for one in moving:
                self.assertRegex(one["address"], r"^127\.0\.0\.1:\d+$")
                self.assertGreater(one["bytes_sent_per_s"], 0)
                self.assertIsNone(one["why"])
            os.kill(second.pid, signal.SIGSTOP)
            try:
                slow = poll_until(lambda: [one for one in members() if one["slow_ms"] > 0], 60, "the other one waits")
                self.assertIn("all_reduce", slow[0]["waits_for"])
                self.assertRegex(slow[0]["waits_for"], r"rank [01] \(")
                text = run("status", address).stdout
                self.assertIn("slow for", text)
            finally:
                os.kill(second.pid, signal.SIGCONT)
            second.kill()
            # The other one's run ends then, too.
            poll_until(lambda: len(members()) < 2, 30, "the killed one is removed")

    def test_nothing_listens(self):
        with silent_port() as address:
            result = run("status", address)
        self.assertEqual((result.returncode, result.stdout), (NO_COORDINATOR, ""))
        self.assertIn(address, result.stderr)

    def test_nothing_answers(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            result = run("status", address, "--timeout-ms", 200)
        self.assertEqual(result.returncode, NO_COORDINATOR)
        self.assertIn(f"{address}: no answer within 200 ms", result.stderr)

    def test_no_coordinator_answers(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            address = f"127.0.0.1:{other.getsockname()[1]}"
            with running("status", address) as process:
                connection, _ = other.accept()
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    _, error = process.communicate(timeout=LIMIT_S)
            self.assertEqual(process.returncode, NO_COORDINATOR)
            self.assertIn(address, error)
            self.assertIn("HTTP/1.1 400", error)

    def test_wrong_addresses(self):
        for arguments in ([], ["nonsense"], ["127.0.0.1:0"], ["127.0.0.1:99999"]):
            with self.subTest(arguments=arguments):
                self.assertEqual(run("status", *arguments).returncode, USAGE)


class Info(unittest.TestCase):
    def test_json(self):
        result = run("info", "--json")
        self.assertEqual(result.returncode, OK, result.stderr)
        info = json.loads(result.stdout)
        self.assertRegex(info["version"], r"^\d+\.\d+\.\d+$")
        self.assertIsInstance(info["build"], dict)
        names = {interface["name"] for interface in info["interfaces"]}
        self.assertIn("lo", names)
        loopback = next(interface for interface in info["interfaces"] if interface["name"] == "lo")
        self.assertTrue(loopback["loopback"])
        self.assertIn("127.0.0.1", loopback["addresses"])
        for library in ("cuda", "nccl"):
            self.assertIsInstance(info[library]["found"], bool)
            if not info[library]["found"]:
                self.assertIn("reason", info[library])

    def test_text(self):
        result = run("info")
        self.assertEqual(result.returncode, OK, result.stderr)
        self.assertIn("lo ", result.stdout)
        self.assertIn("cuda", result.stdout)


class Bench(unittest.TestCase):
    def rows(self, *arguments):
        result = run("bench", *arguments, "--json")
        self.assertEqual(result.returncode, OK, result.stderr)
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        for row in rows:
            self.assertLessEqual(BENCH_KEYS, set(row))
            self.assertEqual(row["wrong"], 0)
            self.assertLessEqual(row["time_us_p50"], row["time_us_p99"])
            self.assertGreater(row["time_us_p50"], 0)
        return rows

    def test_rows_of_all_reduce(self):
        for asked, used in (("auto", "shm"), ("tcp", "tcp"), ("shm", "shm")):
            rows = self.rows("all-reduce", "--spawn", 2, "--min-bytes", "1K", "--max-bytes", "16K", "--iters", 5, "--transport", asked)
            self.assertEqual([row["bytes"] for row in rows], [1024, 4096, 16384])
            self.assertEqual([row["count"] for row in rows], [256, 1024, 4096])
            for row in rows:
                self.assertEqual(
                    (row["op"], row["dtype"], row["redop"], row["ranks"], row["in_flight"], row["transport"], row["compression"]),
                    ("all-reduce", "f32", "sum", 2, 1, used, "none"),
                )
                self.assertAlmostEqual(row["algbw_gbs"], row["bytes"] / row["time_us_p50"] / 1000, delta=1e-6)
                self.assertAlmostEqual(row["busbw_gbs"], row["algbw_gbs"], delta=1e-6)  # 2(n-1)/n of two ranks is 1
                self.assertGreater(row["cpu_ns_per_byte"], 0)

    def test_small_ones_beside_a_large_one(self):
        for transport in ("shm", "tcp"):
            rows = self.rows("all-reduce", "--spawn", 2, "--min-bytes", "4K", "--max-bytes", "4K", "--beside", "64M", "--transport", transport)
            self.assertEqual([(row["bytes"], row["beside_bytes"], row["strands"]) for row in rows], [(4096, 64 << 20, "auto")])

    def test_every_dtype_and_reduction_is_right(self):
        rows = self.rows("all-reduce", "--spawn", 3, "--dtype", "all", "--op", "all", "--min-bytes", "100K", "--max-bytes", "100K",
                         "--iters", 2, "--warmup", 0)  # fmt: skip
        self.assertEqual(len({(row["dtype"], row["redop"]) for row in rows}), 60)

    def test_every_dtype_and_reduction_is_right_in_place_and_in_flight(self):
        rows = self.rows("all-reduce", "--spawn", 2, "--dtype", "all", "--op", "all", "--min-bytes", 10007, "--max-bytes", 10007,
                         "--iters", 2, "--warmup", 1, "--in-place", "--in-flight", 3)  # fmt: skip
        self.assertEqual(len(rows), 60)
        self.assertEqual({row["in_flight"] for row in rows}, {3})

    def test_shared_state(self):
        for op in ("state-check", "state-sync"):
            with self.subTest(op=op):
                rows = self.rows(op, "--spawn", 3, "--min-bytes", "100K", "--max-bytes", "1600K", "--factor", 16, "--iters", 3)
                self.assertEqual([(row["op"], row["bytes"]) for row in rows], [(op, 102400), (op, 1638400)])

    def test_compressed(self):
        for codec, rounding, bytes_of_10007 in (("int8", "nearest", 10007 + 4 * 40), ("int4", "stochastic", 5004 + 4 * 157),
                                                ("minmax8", "stochastic", 10007 + 8 * 40), ("bf16", "nearest", 20014),
                                                ("f16", "stochastic", 20014)):  # fmt: skip
            with self.subTest(codec=codec):
                rows = self.rows("all-reduce", "--spawn", 3, "--dtype", "f32,bf16,f16", "--op", "sum,avg", "--min-bytes", 40028,
                                 "--max-bytes", 40028, "--iters", 2, "--warmup", 1, "--compression", codec, "--rounding",
                                 rounding)  # fmt: skip
                self.assertEqual([(row["compression"], row["rounding"]) for row in rows], 6 * [(codec, rounding)])
                self.assertEqual(next(row for row in rows if row["dtype"] == "f32")["encoded_bytes"], bytes_of_10007)

    def test_compressed_in_place_and_in_flight(self):
        rows = self.rows("all-reduce", "--spawn", 2, "--min-bytes", 4, "--max-bytes", "1M", "--factor", 64, "--iters", 2, "--in-place",
                         "--in-flight", 3, "--compression", "int8", "--block", 32)  # fmt: skip
        self.assertEqual([(row["count"], row["block"]) for row in rows], [(1, 32), (64, 32), (4096, 32), (262144, 32)])

    def test_sizes_below_an_element(self):
        rows = self.rows("all-reduce", "--spawn", 2, "--dtype", "f64", "--min-bytes", 1, "--max-bytes", 16, "--factor", 2, "--iters", 2)
        self.assertEqual([row["count"] for row in rows], [0, 0, 0, 1, 2])

    def test_broadcast(self):
        rows = self.rows("broadcast", "--spawn", 3, "--dtype", "u8,f64", "--min-bytes", "4K", "--max-bytes", "64K", "--iters", 3)
        self.assertEqual([(row["dtype"], row["bytes"]) for row in rows],
                         [("u8", 4096), ("u8", 16384), ("u8", 65536), ("f64", 4096), ("f64", 16384), ("f64", 65536)])  # fmt: skip
        self.assertEqual({row["redop"] for row in rows}, {"none"})

    def test_barrier(self):
        (row,) = self.rows("barrier", "--spawn", 3, "--iters", 5)
        self.assertEqual((row["bytes"], row["count"], row["algbw_gbs"], row["cpu_ns_per_byte"]), (0, 0, 0, None))

    def test_one_rank(self):
        (row,) = self.rows("all-reduce", "--spawn", 1, "--min-bytes", "1K", "--max-bytes", "1K", "--iters", 2)
        self.assertEqual((row["ranks"], row["busbw_gbs"]), (1, 0))

    def test_table(self):
        result = run("bench", "all-reduce", "--spawn", 2, "--min-bytes", "1K", "--max-bytes", "4K", "--iters", 2)
        self.assertEqual(result.returncode, OK, result.stderr)
        header = next(line for line in result.stdout.splitlines() if line.startswith("#") and "busbw" in line)
        for column in ("bytes", "count", "type", "redop", "p50", "p99", "algbw", "busbw", "#wrong", "cpu"):
            self.assertIn(column, header)
        rows = [line.split() for line in result.stdout.splitlines() if not line.startswith("#")]
        self.assertEqual([row[:4] for row in rows], [["1024", "256", "f32", "sum"], ["4096", "1024", "f32", "sum"]])
        self.assertEqual([row[8] for row in rows], ["0", "0"])

    def test_unchecked_rows_claim_nothing(self):
        arguments = ["bench", "all-reduce", "--spawn", 2, "--max-bytes", "1K", "--iters", 2, "--no-check"]
        result = run(*arguments)
        self.assertEqual(result.returncode, OK, result.stderr)
        self.assertEqual([line.split()[8] for line in result.stdout.splitlines() if not line.startswith("#")], ["N/A"])
        self.assertIsNone(json.loads(run(*arguments, "--json").stdout)["wrong"])

    def test_ranks_of_a_coordinator_elsewhere(self):
        with coordinator() as (_, address):
            arguments = ["bench", "all-reduce", "--min-size", 2, "--max-bytes", "4K", "--iters", 3, "--json"]
            with running(*arguments, "--coordinator", address) as first, running(*arguments, HAWSER_COORDINATORS=address) as second:
                outputs = [process.communicate(timeout=LIMIT_S) for process in (first, second)]
                self.assertEqual([first.returncode, second.returncode], [OK, OK], outputs)
        # One of them is rank 0 and prints; the other prints nothing.
        self.assertEqual(sorted(len(out.splitlines()) for out, _ in outputs), [0, 2])

    def test_ranks_with_different_options(self):
        with coordinator() as (_, address):
            arguments = ["bench", "all-reduce", "--min-size", 2, "--coordinator", address, "--iters", 3, "--max-bytes"]
            with running(*arguments, "4K") as first, running(*arguments, "8K") as second:
                errors = [process.communicate(timeout=LIMIT_S)[1] for process in (first, second)]
                self.assertEqual([first.returncode, second.returncode], [USAGE, USAGE], errors)
        self.assertIn("different options", errors[0])


class BenchFailure(unittest.TestCase):
    def test_wrong_values_are_counted_and_fail(self):
        arguments = ["bench", "all-reduce", "--spawn", 2, "--min-bytes", "4K", "--max-bytes", "4K", "--iters", 2, "--corrupt", 3]
        result = run(*arguments, "--json")
        self.assertEqual(result.returncode, FAILED)
        self.assertEqual(json.loads(result.stdout)["wrong"], 3)
        self.assertIn("3 wrong", result.stderr)
        self.assertEqual(run(*arguments, "--in-place", "--in-flight", 2).returncode, FAILED)

    def test_shared_state_that_differs_is_counted(self):
        result = run("bench", "state-check", "--spawn", 2, "--min-bytes", "4K", "--max-bytes", "4K", "--iters", 2, "--corrupt", 3,
                     "--json")  # fmt: skip
        self.assertEqual((result.returncode, json.loads(result.stdout)["wrong"]), (FAILED, 3))

    def test_compressed_results_that_differ_are_counted(self):
        arguments = ["bench", "all-reduce", "--spawn", 2, "--min-bytes", "4K", "--max-bytes", "4K", "--iters", 2, "--corrupt", 3]
        result = run(*arguments, "--compression", "int8", "--json")
        # Within the bound of the codec's error, but not what the other rank has.
        self.assertEqual((result.returncode, json.loads(result.stdout)["wrong"]), (FAILED, 3))

    def test_nothing_answers(self):
        with silent_port() as address:
            result = run("bench", "all-reduce", "--coordinator", address, "--min-size", 1, "--join-timeout-ms", 300)
        self.assertEqual(result.returncode, NO_COORDINATOR, result.stderr)
        self.assertIn(address, result.stderr)

    def test_too_few_ranks(self):
        with coordinator() as (_, address):
            result = run("bench", "all-reduce", "--coordinator", address, "--min-size", 2, "--join-timeout-ms", 300)
        self.assertEqual(result.returncode, NO_COORDINATOR, result.stderr)
        self.assertIn("TIMEOUT", result.stderr)

    def test_a_coordinator_address_that_does_not_parse(self):
        result = run("bench", "all-reduce", "--coordinator", "nonsense", "--min-size", 1)
        self.assertEqual(result.returncode, USAGE, result.stderr)

    def test_a_rank_that_dies_is_named(self):
        # Far more repetitions than the test waits for.
        with running("bench", "all-reduce", "--spawn", 3, "--min-bytes", "64K", "--max-bytes", "64K", "--iters", 100000000) as process:
            # The header is printed when all are members.
            while "busbw" not in process.stdout.readline():
                self.assertIsNone(process.poll())
            victim = children_of(process.pid)[1]
            os.kill(victim, signal.SIGKILL)
            _, error = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, FAILED)
        self.assertIn(f"(pid {victim}) was ended by signal 9", error)
        # The second if it died when all others had finished an operation: the next one is not begun without it.
        self.assertRegex(error, "PEER_LOST|TOO_FEW")

    def test_children_die_with_their_parent(self):
        with running("bench", "all-reduce", "--spawn", 2, "--min-bytes", "64K", "--max-bytes", "64K", "--iters", 100000000) as process:
            while "busbw" not in process.stdout.readline():
                self.assertIsNone(process.poll())
            children = children_of(process.pid)
            self.assertEqual(len(children), 2)
            process.kill()
            poll_until(lambda: not any(map(alive, children)), 60, "children end with their parent")


class StressCase(unittest.TestCase):
    def summary(self, *arguments, code=OK):
        # A deadline well above what an operation needs, and short enough for a run to show those that are never decided.
        result = run("stress", "--json", "--op-timeout-ms", 4000, *arguments)
        self.assertEqual(result.returncode, code, result.stderr)
        summary = json.loads(result.stdout)
        self.assertLessEqual(STRESS_KEYS, set(summary))
        if code == OK:
            self.assertGreater(summary["ops"], 0)
            self.assertEqual([summary[name] for name in ("wrong", "hangs", "disagreements", "errors", "crashes")], [0] * 5)
        return summary


class Stress(StressCase):
    def test_without_faults(self):
        summary = self.summary("--spawn", 3, "--seconds", 2, "--seed", 11, "--max-bytes", "256K")
        self.assertEqual(summary["seed"], 11)
        self.assertEqual([summary[name] for name in ("kills", "stops", "joins", "leaves", "coordinator_kills")], [0] * 5)
        self.assertIsNone(summary["recovery_ms_p50"])

    def test_one_peer(self):
        self.summary("--spawn", 1, "--seconds", 0.5, "--max-bytes", "64K")

    def test_table(self):
        result = run("stress", "--spawn", 2, "--seconds", 0.5, "--max-bytes", "64K", "--quiet")
        self.assertEqual(result.returncode, OK, result.stderr)
        names = {line.split()[0] for line in result.stdout.splitlines()}
        self.assertLessEqual(STRESS_KEYS, names)

    def test_interrupted_it_ends_early_and_sums_up(self):
        with running("stress", "--spawn", 2, "--seconds", 3600, "--max-bytes", "64K", "--json") as process:
            while "ops " not in (line := process.stderr.readline()) or " ops 0 " in line:
                self.assertIsNone(process.poll())
            process.send_signal(signal.SIGINT)
            output, error = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, OK, error)
        self.assertGreater(json.loads(output)["ops"], 0)


class StressFaults(StressCase):
    def test_kills(self):
        summary = self.summary("--spawn", 4, "--seconds", 6, "--seed", 5, "--kill-every", 1, "--max-bytes", "256K")
        self.assertGreater(summary["kills"], 1)
        self.assertGreater(summary["joins"], 0)  # those killed were replaced
        self.assertGreater(summary["recovery_ms_max"], 0)
        self.assertLessEqual(summary["recovery_ms_p50"], summary["recovery_ms_max"])

    def test_joins_interrupt_nothing(self):
        summary = self.summary("--spawn", 3, "--seconds", 4, "--seed", 6, "--join-every", 0.5, "--max-bytes", "256K")
        self.assertGreater(summary["joins"], 1)
        self.assertEqual(summary["reruns"] + summary["repeats"], 0)

    def test_leaves_fail_nothing(self):
        # An operation that others have begun goes on without the one that leaves, by a rerun; no policy makes it fail.
        summary = self.summary("--spawn", 4, "--seconds", 4, "--seed", 6, "--leave-every", 0.5, "--max-bytes", "256K")
        self.assertGreater(summary["leaves"], 1)
        self.assertGreater(summary["joins"], 0)
        self.assertEqual(summary["repeats"], 0)

    def test_stops(self):
        summary = self.summary("--spawn", 4, "--seconds", 8, "--seed", 7, "--stop-every", 1.5, "--peer-timeout-ms", 600,
                               "--max-bytes", "256K")  # fmt: skip
        self.assertGreater(summary["stops"], 1)

    def test_everything_at_once(self):
        summary = self.summary("--spawn", 4, "--seconds", 10, "--seed", 8, "--kill-every", 1.5, "--join-every", 0.8, "--leave-every", 2,
                               "--stop-every", 3, "--peer-timeout-ms", 600, "--max-bytes", "256K")  # fmt: skip
        self.assertGreater(summary["kills"], 0)


class StressCoordinators(StressCase):
    FEW = ("--max-bytes", "256K", "--seconds", 6)

    def test_killed_and_restarted_with_a_log(self):
        summary = self.summary("--spawn", 4, *self.FEW, "--seed", 21, "--coordinator-kill-every", 1.2)
        self.assertGreater(summary["coordinator_kills"], 1)
        self.assertEqual([summary[name] for name in ("reruns", "repeats", "expulsions")], [0] * 3)  # nobody notices

    def test_killed_without_a_log(self):
        summary = self.summary("--spawn", 4, *self.FEW, "--seed", 22, "--coordinator-kill-every", 2, "--coordinator-log", "none")
        self.assertGreater(summary["coordinator_kills"], 0)

    def test_standbys_and_losses(self):
        summary = self.summary("--spawn", 5, *self.FEW, "--seed", 23, "--standbys", 2, "--coordinator-kill-every", 1.5,
                               "--coordinator-stop-every", 3, "--kill-every", 3)  # fmt: skip
        self.assertGreater(summary["coordinator_kills"] + summary["coordinator_stops"], 1)

    def test_a_starved_peer_is_not_removed(self):
        summary = self.summary("--spawn", 3, *self.FEW, "--seed", 24, "--starve-every", 2, "--peer-timeout-ms", 2000)
        self.assertGreater(summary["starvations"], 0)

    def test_an_own_directory_for_logs(self):
        with tempfile.TemporaryDirectory() as directory:
            self.summary("--spawn", 2, "--seconds", 1, "--max-bytes", "64K", "--coordinator-log", directory)
            self.assertTrue(os.listdir(os.path.join(directory, "0")))

    def test_figures(self):
        result = run("stress", "--figures", "--spawn", 3, "--repeats", 1, "--max-bytes", "256K", "--json", "--quiet")
        self.assertEqual(result.returncode, OK, result.stderr)
        figures = json.loads(result.stdout)
        self.assertEqual([figures[name] for name in ("wrong", "failed_ops", "coordinator_failed_ops")], [0] * 3)
        for name in ("kill_ms", "join_ms", "stop_ms", "restart_join_ms", "standby_join_ms"):
            self.assertGreater(figures[name], 0)

    @unittest.skipUnless(os.geteuid() == 0, "takes root")
    def test_connections_and_ways(self):
        strands = self.summary("--spawn", 3, *self.FEW, "--seed", 25, "--strand-kill-every", 0.3)
        self.assertGreater(strands["strand_kills"], 3)
        self.assertEqual([strands[name] for name in ("reruns", "expulsions")], [0, 0])  # nothing but frames is sent again
        cuts = self.summary("--spawn", 4, *self.FEW, "--seed", 26, "--cut-every", 1.5)
        self.assertGreater(cuts["cuts"], 0)

    @unittest.skipIf(os.geteuid() == 0, "root may")
    def test_what_takes_root_says_so(self):
        for option in ("--cut-every", "--strand-kill-every"):
            result = run("stress", option, 1)
            self.assertEqual(result.returncode, USAGE)
            self.assertIn("root", result.stderr)


class StressKillPoints(StressCase):
    def setUp(self):
        if run("stress", "--kill-at", "op.begin", "--seconds", 0.1, "--spawn", 1).returncode == USAGE:
            self.skipTest("a build without kill points")

    def test_one_place(self):
        summary = self.summary("--spawn", 3, "--seconds", 60, "--seed", 31, "--max-bytes", "64K", "--kill-at", "done.sent:2",
                               "--kill-at-times", 2)  # fmt: skip
        self.assertEqual(summary["kill_points"], {"done.sent": 2})
        self.assertEqual(summary["kills"], 2)
        self.assertLess(summary["seconds"], 50)

    def test_a_coordinator(self):
        summary = self.summary("--spawn", 3, "--seconds", 60, "--seed", 32, "--max-bytes", "64K", "--kill-at",
                               "coordinator.persisted:1", "--kill-at-times", 1, "--leave-every", 0.5)  # fmt: skip
        self.assertEqual((summary["kill_points"], summary["coordinator_kills"]), ({"coordinator.persisted": 1}, 1))

    def test_names_are_checked(self):
        for name in ("no.such", "done.sent:0", "done.sent:x"):
            result = run("stress", "--kill-at", name)
            self.assertEqual((name, result.returncode), (name, USAGE))
        listed = json.loads(run("stress", "--list-kill-points", "--json").stdout)
        self.assertIn({"name": "op.begin", "role": "member", "in_place": False}, listed)


class StressVerdict(StressCase):
    """What the supervisor must not overlook."""

    def test_damaged_results_are_wrong_and_a_disagreement(self):
        result = run("stress", "--spawn", 2, "--seconds", 2, "--max-bytes", "64K", "--corrupt-round", 20, "--json")
        self.assertEqual(result.returncode, FAILED)
        summary = json.loads(result.stdout)
        self.assertGreater(summary["wrong"], 0)
        self.assertGreater(summary["disagreements"], 0)
        self.assertFalse(summary["ok"])
        self.assertIn("--seed", result.stderr)  # how to do it again

    def test_a_peer_that_stops_answering_hangs(self):
        with running("stress", "--spawn", 2, "--seconds", 3600, "--max-bytes", "64K", "--op-timeout-ms", 1000, "--hang-bound-ms", 1000,
                     "--json") as process:  # fmt: skip
            while "ops " not in (line := process.stderr.readline()) or " ops 0 " in line:
                self.assertIsNone(process.poll())
            victim = children_of(process.pid)[0]
            os.kill(victim, signal.SIGSTOP)
            while "hang:" not in (line := process.stderr.readline()):
                self.assertIsNone(process.poll())
            self.assertIn(f"(pid {victim})", line)
            poll_until(lambda: not alive(victim), 60, "the hung peer is killed")
            process.send_signal(signal.SIGINT)
            output, error = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, FAILED, error)
        self.assertEqual(json.loads(output)["hangs"], 1)

    def test_a_peer_that_dies_unasked_is_a_crash(self):
        with running("stress", "--spawn", 3, "--seconds", 3600, "--max-bytes", "64K", "--json") as process:
            while "ops " not in (line := process.stderr.readline()) or " ops 0 " in line:
                self.assertIsNone(process.poll())
            victim = children_of(process.pid)[0]
            os.kill(victim, signal.SIGSEGV)
            while "crash:" not in (line := process.stderr.readline()):
                self.assertIsNone(process.poll())
            self.assertIn(f"(pid {victim})", line)
            process.send_signal(signal.SIGINT)
            output, error = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, FAILED, error)
        self.assertEqual(json.loads(output)["crashes"], 1)

    def test_children_die_with_their_supervisor(self):
        with running("stress", "--spawn", 2, "--seconds", 3600, "--max-bytes", "64K") as process:
            children = poll_until(lambda: [pid for pid in children_of(process.pid) if has_descriptor_3(pid)][:2], 60, "two children")
            process.kill()
            poll_until(lambda: not any(map(alive, children)), 60, "children end with their parent")


if __name__ == "__main__":
    sys.exit(unittest.main(module=sys.modules[__name__]))
