"""Trains a character-level GPT twice with the same number of characters, on four peers of this machine: by DiLoCo with
rounds in 8 bits a parameter, and by plain data-parallel training. Prints bytes, losses and times, and draws the curves.

    python compare.py                 # some minutes
    python compare.py --size small    # some seconds, shows that it works; too short to compare losses

The time over a slow link is what the bytes take at its rate, added to the time of computing. To measure it instead, let
peers run where the link is: --launch gives a command in front of each peer, such as "ssh host{rank}" or "ip netns exec
site{rank}", and --listen an address of the coordinator that they reach.

Exit status 0: at full size DiLoCo sent at least 50 times fewer bytes and ended within 5 % of the loss; at small size
every peer ended with the same parameters.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import hawser

BYTES_RATIO_MIN = 50.0
LOSS_RATIO_MAX = 1.05
NAMES = {"parallel": "data-parallel, f32", "diloco": "DiLoCo"}


class Failure(Exception):
    """A run ended otherwise than it should."""


class Run:
    """What the peers of one method have reported."""

    def __init__(self, method: str, rows: list[list[dict[str, Any]]]) -> None:
        self.method = method
        self.joined = [row for peer in rows for row in peer if row["event"] == "joined"]
        self.done = [row for peer in rows for row in peer if row["event"] == "done"]
        first = next(peer for peer in rows if peer[0]["rank"] == 0)
        self.steps = [row for row in first if row["event"] == "step"]
        if len({row["digest"] for row in self.done}) != 1:
            raise Failure(f"{method}: the parameters differ at the end")
        if len({row["text"] for row in self.joined}) != 1:
            raise Failure(f"{method}: the peers train on different text")

    @property
    def bytes(self) -> int:
        """That one peer sent, on average."""
        return int(sum(row["bytes"] for row in self.done) / len(self.done))

    @property
    def seconds(self) -> float:
        """Of training, with the waiting for others, without validation."""
        return float(max(row["seconds"] for row in self.done))

    @property
    def loss(self) -> float:
        return float(self.steps[-1]["validation"])

    def seconds_over(self, megabits: float) -> float:
        return self.seconds + 8e-6 * self.bytes / megabits


def run(method: str, arguments: argparse.Namespace) -> Run:
    """Starts the peers as processes of their own and reads what they report."""
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    with hawser.Coordinator(arguments.listen) as coordinator, tempfile.TemporaryDirectory() as folder:
        outputs, processes = [], []
        try:
            for rank in range(arguments.peers):
                command = [*shlex.split(arguments.launch.format(rank=rank)), sys.executable]
                command += [str(Path(__file__).with_name("train.py")), "--coordinator", coordinator.address]
                command += ["--peers", str(arguments.peers), "--name", f"peer-{rank}", "--method", method]
                command += ["--size", arguments.size, "--h", str(arguments.h), "--compression", arguments.compression]
                command += ["--threads", str(arguments.threads), "--seed", str(arguments.seed)]
                outputs.append((Path(folder) / f"{rank}.jsonl").open("w+b"))
                processes.append(subprocess.Popen(command, stdout=outputs[-1], env=environment))
            statuses = [process.wait() for process in processes]
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                process.wait()
        if any(statuses):
            raise Failure(f"{method}: peers ended with {statuses}")
        rows = []
        for output in outputs:
            output.seek(0)
            rows.append([json.loads(line) for line in output])
            output.close()
    return Run(method, rows)


def table(runs: dict[str, Run], arguments: argparse.Namespace) -> str:
    links = [float(rate) for rate in arguments.links.split(",")]
    over = "".join(f"{f's over {rate:g} Mbit/s':>20}" for rate in links)
    lines = [f"{'':<22}{'loss':>8}{'MB sent':>11}{'s':>8}{over}"]
    for one in runs.values():
        name = NAMES[one.method] + (f", H {arguments.h}, {arguments.compression}" if one.method == "diloco" else "")
        times = "".join(f"{one.seconds_over(rate):>20.0f}" for rate in links)
        lines.append(f"{name:<22}{one.loss:>8.4f}{one.bytes / 1e6:>11.2f}{one.seconds:>8.1f}{times}")
    return "\n".join(lines)


def draw(runs: dict[str, Run], arguments: argparse.Namespace) -> None:
    """Loss by steps, and by bytes sent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (by_step, by_bytes) = pyplot.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for one in runs.values():
        losses = [row["validation"] for row in one.steps]
        name = NAMES[one.method] + (f", H = {arguments.h}, {arguments.compression}" if one.method == "diloco" else "")
        by_step.plot([row["step"] for row in one.steps], losses, label=name)
        by_bytes.plot([row["bytes"] / 1e6 for row in one.steps], losses, label=name)
    by_step.set(xlabel="steps of each peer", ylabel="validation loss, nats a character")
    by_bytes.set(xlabel="MB sent by each peer", xscale="log")
    for axes in (by_step, by_bytes):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"character-level GPT, {arguments.peers} peers, equal numbers of characters")
    figure.tight_layout()
    figure.savefig(arguments.out, dpi=130)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares DiLoCo with plain data-parallel training.")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--h", type=int, default=50, help="steps of a round (default: 50)")
    parser.add_argument("--compression", default="int8", help="of rounds: int8, int4, bf16, ..., none (default: int8)")
    parser.add_argument("--links", default="100,1000", help="rates in Mbit/s to estimate times for (default: 100,1000)")
    parser.add_argument("--out", type=Path, default=Path("gpt.png"), help="the picture (default: gpt.png)")
    parser.add_argument("--listen", default="127.0.0.1:0", help="HOST:PORT of the coordinator")
    parser.add_argument("--launch", default="", help='command in front of each peer, such as "ssh host{rank}"')
    parser.add_argument("--threads", type=int, default=1, help="of torch in each peer (default: 1)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        runs = {}
        for method in ("parallel", "diloco"):
            runs[method] = run(method, arguments)
            facts = runs[method].joined[0]
            if method == "parallel":
                print(f"{facts['parameters']} parameters, {facts['characters']} characters of text", flush=True)
        print(table(runs, arguments))
        draw(runs, arguments)
    except Failure as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    fewer, worse = runs["parallel"].bytes / runs["diloco"].bytes, runs["diloco"].loss / runs["parallel"].loss
    print(f"DiLoCo sent {fewer:.0f} times fewer bytes and ended with {worse - 1:+.1%} of the loss")
    print(f"curves in {arguments.out}; {time.monotonic() - started:.0f} s")
    if arguments.size == "full" and (fewer < BYTES_RATIO_MIN or worse > LOSS_RATIO_MAX):
        wanted = f"{BYTES_RATIO_MIN:.0f} times fewer, and at most +{LOSS_RATIO_MAX - 1:.0%}"
        print(f"FAILED: wanted {wanted}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
