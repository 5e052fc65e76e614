"""Trains a classifier of handwritten digits on four peers, kills one of them, lets a new one in, and checks the
outcome.

This process holds the coordinator, starts the peers (peer.py) as processes of their own, reads what they report, and
draws the table. It carries no weights: those go between the peers, over TCP on the loopback interface. Exit status 0:
the survivors and the newcomer hold the same weights to the bit, these classify at least 95 % of the test images, and
both the loss of a peer and the join really happened.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import hawser
import numpy as np

PEERS = 4
NEWCOMER = f"peer-{PEERS}"
KILL_IN_ROUND = 12
JOIN_AFTER_ROUND = 20  # so that some rounds run without the lost peer
ROUNDS_TOGETHER = 15  # of the newcomer with the others, at least
ROUNDS_MIN = 50
ACCURACY_MIN = 0.95
TEST_SHARE = 0.2
SPLIT_SEED = 20
TIME_MAX = 120.0  # seconds; far above what a slow machine needs


class Failure(Exception):
    """The demonstration did not show what it is for."""


class Peer:
    """A peer process and what it has reported."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name, self.log = name, log
        self.state = "starting"
        self.rounds: list[dict[str, Any]] = []
        self.done: dict[str, Any] | None = None
        self.joined: dict[str, Any] | None = None
        self.unread = b""
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The events that came, and whether more may come."""
        assert self.process.stdout is not None
        chunk = os.read(self.process.stdout.fileno(), 65536)
        *lines, self.unread = (self.unread + chunk).split(b"\n")
        return [json.loads(line) for line in lines], bool(chunk)

    def tell_to_finish(self) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b"finish\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it is gone, which its end of stdout tells


class Table:
    """The rounds as they come: redrawn in place on a terminal, one line each elsewhere."""

    HEADER = f"{'round':>5}  {'world':>5}  {'loss':>7}  {'accuracy':>8}  {'ms':>6}  {'MB/s':>6}  peers"

    def __init__(self, live: bool, colour: bool) -> None:
        self.live, self.colour = live, colour
        self.rows: deque[str] = deque(maxlen=max(4, min(14, shutil.get_terminal_size().lines - 14)))
        self.events: list[tuple[str, str]] = []  # text and colour
        self.drawn = 0
        if not live:
            print(self.HEADER, flush=True)

    def paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def event(self, text: str, code: str) -> None:
        self.events.append((text, code))
        if self.live:
            self.draw()
        else:
            print(f"  -- {self.paint(text, code)}", flush=True)

    def round(self, report: dict[str, Any], megabytes_per_second: float, roster: str) -> None:
        row = (
            f"{report['round']:>5}  {report['participants']:>5}  {report['loss']:>7.4f}  {report['accuracy']:>8.2%}"
            f"  {report['seconds'] * 1e3:>6.1f}  {megabytes_per_second:>6.1f}  {roster}"
        )
        self.rows.append(row)
        if self.live:
            self.draw()
        else:
            print(row, flush=True)

    def draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1  # a line that wraps would be two to go up
        lines = [(self.HEADER, "1"), *((row, "0") for row in self.rows), ("", "0"), *self.events[-8:]]
        up = f"\033[{self.drawn}A" if self.drawn else ""
        body = "".join(f"\033[2K{self.paint(text[:width], code)}\n" for text, code in lines)
        sys.stdout.write(f"{up}{body}\033[J")
        sys.stdout.flush()
        self.drawn = len(lines)


class Demo:
    def __init__(self, folder: Path, address: str, table: Table, victim: str) -> None:
        self.folder, self.address, self.table, self.victim = folder, address, table, victim
        self.peers: dict[str, Peer] = {}
        self.selector = selectors.DefaultSelector()
        self.members: list[str] = []
        self.last_round = -1
        self.told_to_finish = False

    # ---------------------------------------------------------------------------------------------------- processes

    def start(self, name: str, min_size: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("peer.py")), "--coordinator", self.address]
        command += ["--data", str(self.folder / "digits.npz"), "--name", name, "--min-size", str(min_size)]
        peer = self.peers[name] = Peer(name, command, self.folder / f"{name}.log")
        assert peer.process.stdout is not None
        self.selector.register(peer.process.stdout, selectors.EVENT_READ, peer)

    def run(self) -> None:
        for number in range(PEERS):
            self.start(f"peer-{number}", PEERS)
        deadline = time.monotonic() + TIME_MAX
        while self.selector.get_map():
            ready = self.selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Failure(f"no end after {TIME_MAX:.0f} s")
            for key, _ in ready:
                events, more = key.data.read()
                for event in events:
                    self.take(key.data, event)
                if not more:
                    self.selector.unregister(key.fileobj)
                    self.ended(key.data)

    def ended(self, peer: Peer) -> None:
        status = peer.process.wait(timeout=10)
        if peer.state == "killed":
            if status != -signal.SIGKILL:
                raise Failure(f"{peer.name} ended with status {status} instead of by SIGKILL")
        elif status != 0 or peer.done is None:
            raise Failure(f"{peer.name} ended with status {status}:\n{peer.log.read_text(errors='replace')}")

    def end_all(self) -> None:
        for peer in self.peers.values():
            if peer.process.poll() is None:
                peer.process.kill()
            peer.process.wait()
            for stream in (peer.process.stdin, peer.process.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except OSError:
                        pass  # unsent words for a peer that is gone

    # ------------------------------------------------------------------------------------------------------- events

    def take(self, peer: Peer, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        if kind == "joined":
            peer.joined, peer.state = event, "member"
            if peer.name == NEWCOMER:
                self.table.event(
                    f"+ {peer.name} joined as rank {event['rank']} of {event['size']}"
                    f" and took the weights of round {event['round']}",
                    "32",
                )
        elif kind == "halfway":
            if peer.name == self.victim and event["round"] == KILL_IN_ROUND and peer.state == "member":
                peer.process.kill()
                peer.state = "killed"
                self.table.event(f"x {peer.name} got SIGKILL in the middle of round {event['round']}", "31")
        elif kind == "round":
            peer.rounds.append(event)
            if event["round"] > self.last_round:
                self.last_round = event["round"]
                self.new_round(event)
        elif kind == "done":
            peer.done, peer.state = event, "done"

    def new_round(self, report: dict[str, Any]) -> None:
        """Of the first peer that reports it; what it says is the same for all, but for its own bytes and times."""
        left = [name for name in self.members if name not in report["members"]]
        if left:
            again = f", run again in {report['reduce_seconds'] * 1e3:.0f} ms" if report["attempts"] > 1 else ""
            self.table.event(
                f"- {', '.join(left)} left the group; round {report['round']} kept by {report['participants']} peers"
                f"{again}",
                "33",
            )
        self.members = report["members"]
        rate = report["bytes"] * report["participants"] / report["seconds"] / 1e6
        self.table.round(report, rate, " ".join(f"{name:<7}" for name in self.members))
        if report["round"] == JOIN_AFTER_ROUND:
            self.start(NEWCOMER, 1)
        newcomer = self.peers.get(NEWCOMER)
        if (
            not self.told_to_finish
            and report["round"] + 1 >= ROUNDS_MIN
            and newcomer is not None
            and len(newcomer.rounds) >= ROUNDS_TOGETHER
        ):
            self.told_to_finish = True
            for peer in self.peers.values():
                if peer.state == "member":
                    peer.tell_to_finish()

    # ------------------------------------------------------------------------------------------------------ outcome

    def check(self) -> None:
        """Raises Failure unless everything happened that this demonstration is about."""
        victim, newcomer = self.peers[self.victim], self.peers.get(NEWCOMER)
        if victim.state != "killed":
            raise Failure(f"{self.victim} was never killed")
        finishers = [peer for peer in self.peers.values() if peer.done is not None]
        if newcomer is None or newcomer not in finishers or len(finishers) != PEERS:
            raise Failure(f"at the end there are {[peer.name for peer in finishers]}")
        veteran = finishers[0]
        if not any(report["participants"] == PEERS - 1 for report in veteran.rounds):
            raise Failure(f"no round ran without {self.victim}")
        if veteran.rounds[-1]["peers_lost"] != 1 or self.victim in self.members:
            raise Failure(f"the group did not notice the loss of {self.victim}")
        if newcomer.rounds[-1]["participants"] != PEERS or newcomer.rounds[0]["round"] <= KILL_IN_ROUND:
            raise Failure(f"{NEWCOMER} did not compute with the others")
        rounds = self.last_round + 1
        accuracies = {peer.done["accuracy"] for peer in finishers if peer.done}
        print(f"\ntest accuracy {min(accuracies):.2%} after {rounds} rounds (at least {ACCURACY_MIN:.0%} wanted)")
        for peer in finishers:
            assert peer.done is not None
            print(f"{peer.name}  sha256 of the weights  {peer.done['digest']}")
        if len({(peer.done["digest"], peer.done["root"]) for peer in finishers if peer.done}) != 1:
            raise Failure("the weights differ")
        if min(accuracies) < ACCURACY_MIN:
            raise Failure("the accuracy is too low")


def write_data(path: Path) -> str:
    """The images of scikit-learn's load_digits, scaled to 0..1 and split by a fixed seed. A sentence about them."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    test, train = np.split(order, [round(TEST_SHARE * len(labels))])
    scaled = (images / 16).astype(np.float32)
    np.savez(
        path, train_images=scaled[train], train_labels=labels[train], test_images=scaled[test], test_labels=labels[test]
    )
    return f"{len(labels)} images of handwritten digits: {len(train)} to train on, {len(test)} to test with"


def main() -> int:
    parser = argparse.ArgumentParser(description="Trains on four peers, kills one, lets a new one in.")
    parser.add_argument("--plain", action="store_true", help="one line for each round, as when stdout is no terminal")
    parser.add_argument("--victim", type=int, choices=range(PEERS), default=1, help="which peer is killed (default: 1)")
    arguments = parser.parse_args()
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not arguments.plain
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hawser-digits-") as folder, hawser.Coordinator() as coordinator:
        print(write_data(Path(folder) / "digits.npz"))
        print(f"coordinator at {coordinator.address}, {PEERS} peers as processes of their own")
        print("DiLoCo with rounds in 8 bits a parameter; MB/s: what all peers sent, over the whole round\n", flush=True)
        table = Table(terminal, terminal and "NO_COLOR" not in os.environ)
        demo = Demo(Path(folder), coordinator.address, table, f"peer-{arguments.victim}")
        try:
            demo.run()
            demo.check()
        except Failure as failure:
            print(f"\nFAILED: {failure}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            demo.end_all()
    print(f"one peer lost, one joined, all weights equal: {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
