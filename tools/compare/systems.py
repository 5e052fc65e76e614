"""What tools/compare can measure: Hawser, Gloo, Open MPI, and the bare wire by iperf3. A system says whether it can run here,
and measures one row (ranks, bytes) at a time; each measurement is a run of processes that ends before the next system's
begins, except Gloo's, which sleep in between.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Unavailable(Exception):
    """The system cannot run here at all; the text says why."""


class RowFailed(Exception):
    """One measurement failed; the text says how."""


@dataclass(frozen=True)
class Row:
    """What is measured: an all-reduce (fp32, sum)."""

    ranks: int
    bytes: int
    iters: int
    warmup: int
    in_place: bool | None  # None: out of place where the system can do it without a copy by the caller
    limit_s: float  # for the whole run of processes; beyond it they are killed


def parse_figures(text, what):
    """The one JSON object that a measurement prints."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    try:
        figures = json.loads(lines[-1])
        return {name: figures[name] for name in ("time_us_p50", "time_us_p99", "cpu_ns_per_byte", "wrong", "iters")}
    except (IndexError, ValueError, KeyError) as error:
        raise RowFailed(f"{what} printed no figures") from error


def last_words(*texts):
    """What a failed command said last that says something."""
    lines = [line.strip(" -*\n") for text in texts for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "nothing was said")


def run(command, limit_s, environment=None):
    """Runs a command to its end; one that outlasts its limit is ended, with its children where it tells them."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            raise RowFailed(f"took longer than {limit_s:.0f} s") from error
    if process.returncode != 0:
        raise RowFailed(f"exit status {process.returncode}: {last_words(out, err)}")
    return out


class System:
    name = ""
    version = ""
    least_bytes = 0  # of a buffer for which it has figures
    placements = {None: "out", True: "in", False: "out"}  # what is done for Row.in_place

    def check(self):
        """Raises Unavailable, or fills in `version`."""

    def measure(self, row):
        raise NotImplementedError

    def close(self):
        """Ends what was left running."""


class Hawser(System):
    def __init__(self, name, program, arguments=()):
        self.name = name
        self.program = program
        self.arguments = list(arguments)

    def check(self):
        if shutil.which(self.program) is None:
            raise Unavailable(f"{self.program}: not found; build it, or say --hawser PATH")
        result = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=False)
        self.version = result.stdout.strip()
        try:
            self.measure(Row(2, 1024, 1, 0, None, 60))
        except RowFailed as error:
            raise Unavailable(str(error)) from error

    def measure(self, row):
        command = [self.program, "bench", "all-reduce", "--json", "--spawn", row.ranks, "--min-bytes", row.bytes]
        command += ["--max-bytes", row.bytes, "--iters", row.iters, "--warmup", row.warmup, *self.arguments]
        if row.in_place:
            command.append("--in-place")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HAWSER_")}
        return parse_figures(run([str(word) for word in command], row.limit_s, environment), "hawser bench")


class OpenMpi(System):
    """mpi_rank.c, compiled here, under mpirun. `transport` is tcp (of loopback) or shm."""

    def __init__(self, transport, folder):
        self.name = f"mpi-{transport}"
        self.transport = transport
        self.program = Path(folder) / "mpi_rank"

    def check(self):
        for program, package in (("mpirun", "openmpi-bin"), ("mpicc", "libopenmpi-dev")):
            if shutil.which(program) is None:
                raise Unavailable(f"no {program} (Debian: {package})")
        said = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=False).stdout
        if "Open MPI" not in said:
            raise Unavailable("mpirun is not that of Open MPI")
        self.version = said.splitlines()[0].replace("mpirun (Open MPI)", "Open MPI").strip()
        if self.transport == "tcp":
            self.btl = "self,tcp"
        else:
            parts = subprocess.run(["ompi_info", "--parsable"], capture_output=True, text=True, check=False).stdout
            self.btl = "self,vader" if "mca:btl:vader:" in parts else "self,sm"  # Open MPI 4 and 5
        if not self.program.exists():
            command = ["mpicc", "-O3", "-march=native", "-Wall", "-o", str(self.program), str(HERE / "mpi_rank.c")]
            built = subprocess.run(command, capture_output=True, text=True, check=False)
            if built.returncode != 0:
                raise Unavailable(f"mpicc failed: {last_words(built.stderr)}")

    def measure(self, row):
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(row.ranks), "--mca", "pml", "ob1"]
        command += ["--mca", "btl", self.btl]
        if os.geteuid() == 0:
            command.append("--allow-run-as-root")
        if self.transport == "tcp":
            command += ["--mca", "btl_tcp_if_include", "lo"]
        command += [str(self.program), str(row.bytes), str(row.iters), str(row.warmup), self.placements[row.in_place]]
        return parse_figures(run(command, row.limit_s), "mpi_rank")


class Gloo(System):
    """gloo_rank.py in as many processes as there are ranks, started for the first row of that many."""

    name = "gloo"
    placements = {None: "in", True: "in", False: "out"}  # torch.distributed has no other; "out" copies

    def __init__(self, python, folder):
        self.python = python
        self.folder = folder
        self.ranks = []
        self.starts = 0
        self.unread = b""

    def check(self):
        probe = "import torch, torch.distributed as d; assert d.is_gloo_available(); print(torch.__version__)"
        try:
            result = subprocess.run([self.python, "-c", probe], capture_output=True, text=True, check=False)
        except OSError as error:
            raise Unavailable(f"{self.python}: {error.strerror}") from error
        if result.returncode != 0:
            raise Unavailable(f"{self.python} has no torch with Gloo ({last_words(result.stderr)}); say --python PATH")
        self.version = f"torch {result.stdout.strip()}"

    def answer(self, limit_s):
        """The next line of rank 0. Every rank answers to a line or is ended."""
        end = time.monotonic() + limit_s
        stdout = self.ranks[0].stdout.fileno()
        while b"\n" not in self.unread:
            left = end - time.monotonic()
            ready, _, _ = select.select([stdout], [], [], max(left, 0))
            part = os.read(stdout, 65536) if ready else b""
            if not part:
                self.close()
                raise RowFailed(f"took longer than {limit_s:.0f} s" if not ready else "a rank of Gloo ended")
            self.unread += part
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()

    def start(self, ranks):
        self.close()
        self.unread = b""
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        self.starts += 1
        rendezvous = Path(self.folder) / f"gloo.{self.starts}"
        for rank in range(ranks):
            command = [self.python, "-B", str(HERE / "gloo_rank.py"), str(rendezvous), str(rank), str(ranks)]
            self.ranks.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                )
            )
        self.answer(60 + 10 * ranks)

    def measure(self, row):
        if len(self.ranks) != row.ranks:
            self.start(row.ranks)
        line = f"{row.bytes} {row.iters} {row.warmup} {self.placements[row.in_place]}\n".encode()
        for process in self.ranks:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(line)
                process.stdin.flush()
        return parse_figures(self.answer(row.limit_s), "gloo_rank.py")

    def close(self):
        ranks, self.ranks = self.ranks, []
        for process in ranks:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in ranks:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


class Wire(System):
    """iperf3: as many flows at once as a ring has links, each in one direction. Its time is that in which a link moves what an
    all-reduce puts on it, 2(n-1)/n of the buffer, at the mean rate of the flows. No reduction, no agreement: a bound."""

    name = "iperf3"
    placements = {None: "none", True: "none", False: "none"}
    least_bytes = 1 << 20  # below it, a rate says nothing

    def __init__(self, seconds):
        self.seconds = max(1, round(seconds))

    def check(self):
        if shutil.which("iperf3") is None:
            raise Unavailable("no iperf3 (Debian: iperf3)")
        said = subprocess.run(["iperf3", "--version"], capture_output=True, text=True, check=False).stdout
        self.version = " ".join(said.split()[:2])

    def serve(self):
        """A server for one test, on a port of its own. iperf3 chooses none itself, so one that was free is tried."""
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        command = ["iperf3", "-s", "-1", "--forceflush", "-B", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in server.stdout:
            if "listening" in line:
                return server, port
        server.wait()
        raise RowFailed("iperf3 -s did not start")

    def measure(self, row):
        servers, clients = [], []
        try:
            for _ in range(row.ranks):
                servers.append(self.serve())
            for _, port in servers:
                command = ["iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", str(self.seconds), "-J"]
                clients.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
            ends = [json.loads(client.communicate(timeout=self.seconds + 30)[0])["end"] for client in clients]
        except (ValueError, KeyError, subprocess.TimeoutExpired) as error:
            raise RowFailed("iperf3 failed") from error
        finally:
            for process in [*clients, *(server for server, _ in servers)]:
                if process.poll() is None:
                    process.kill()
                process.wait()
                process.stdout.close()
        rate = sum(end["sum_received"]["bits_per_second"] for end in ends) / len(ends) / 8
        # Percent of a processor while the test ran, sender and receiver of one link, which are one rank's share of a ring.
        percent = [sum(end["cpu_utilization_percent"][of] for of in ("host_total", "remote_total")) for end in ends]
        share = 2 * (row.ranks - 1) / row.ranks
        return {
            "time_us_p50": share * row.bytes / rate * 1e6,
            "time_us_p99": None,
            "cpu_ns_per_byte": share * sum(percent) / len(percent) / 100 / rate * 1e9,
            "wrong": 0,
            "iters": 1,
        }


def default_hawser():
    built = HERE.parents[1] / "build" / "release" / "tools" / "hawser"
    return os.environ.get("HAWSER_BIN") or (str(built) if built.exists() else "hawser")


def default_python():
    """The interpreter of .venv, where tools/test.sh installs torch, or this one."""
    installed = HERE.parents[1] / ".venv" / "bin" / "python"
    return str(installed) if installed.exists() else sys.executable
