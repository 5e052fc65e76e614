"""One peer of the digits example: DiLoCo rounds (Douillard et al., arXiv 2311.08105) over a group that changes.

A round is: an admission point; some AdamW steps on this peer's share of the images; the average over all members of how
far each one moved (the pseudo-gradient); one Nesterov step with it on the weights that all members hold. Losing a
member costs a retry inside all_reduce. A newcomer gets weights, momentum and round number from the oldest member.

    python peer.py --coordinator HOST:PORT --data digits.npz --name peer-0 --min-size 4

Writes what happens as JSON lines to stdout; a line "finish" on stdin ends the training once every member was told.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import threading
import time
from typing import Any

import hawser
import numpy as np
from model import AdamW, Array, Mlp, initial_parameters, parameter_count

LOCAL_STEPS = 20
BATCH = 32
OUTER_LEARNING_RATE = 0.7
OUTER_MOMENTUM = 0.9


class Shared:
    """What is the same at all members, in one vector: the weights, the outer momentum, the number of rounds done."""

    def __init__(self) -> None:
        size = parameter_count()
        self.vector = np.zeros(2 * size + 1, np.float32)
        self.vector[-1] = -1  # a newcomer has no round yet
        self.size = size

    def start(self, seed: int) -> None:
        self.vector[: self.size] = initial_parameters(seed)
        self.vector[-1] = 0

    @property
    def weights(self) -> Array:
        return self.vector[: self.size]

    @property
    def round(self) -> int:
        return int(self.vector[-1])

    def outer_step(self, pseudo_gradient: Array) -> None:
        """Nesterov's momentum in the form of Sutskever et al., ICML 2013, with the pseudo-gradient as the gradient."""
        momentum = self.vector[self.size : 2 * self.size]
        momentum *= OUTER_MOMENTUM
        momentum += pseudo_gradient
        self.weights[:] -= OUTER_LEARNING_RATE * (OUTER_MOMENTUM * momentum + pseudo_gradient)
        self.vector[-1] += 1

    def digest(self) -> str:
        return hashlib.sha256(self.weights.tobytes()).hexdigest()


def tell(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def give_state_to_newcomers(comm: hawser.Communicator, shared: Shared) -> None:
    """Every member calls this after each admission point.

    That a newcomer is there is decided by a collective and not by looking at the members: a look may see a view that
    others do not see at the same place, a result is the same for all.
    """
    wanted = comm.all_reduce(np.array([shared.round < 0], np.uint8), "max")[0]
    while wanted:
        try:
            comm.broadcast(shared.vector, root=0)  # rank 0 is the oldest member
        except hawser.PeerLostError:
            continue  # it was lost; all survivors know, and the next oldest takes its place
        if shared.round < 0:
            raise SystemExit("no member that had the weights is left")
        return


def finish_when_told() -> threading.Event:
    told = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "finish":
                told.set()

    threading.Thread(target=listen, daemon=True).start()
    return told


def train(comm: hawser.Communicator, data: dict[str, np.ndarray[Any, Any]], seed: int) -> None:
    told = finish_when_told()
    shared = Shared()
    if comm.rank == 0:  # the first of a new group; a newcomer of an old one is never rank 0
        shared.start(seed)
    local = np.zeros(parameter_count(), np.float32)
    network, inner = Mlp(local), AdamW(local.size)
    # What one all_reduce averages: the pseudo-gradient, the loss, and who has been told to finish.
    message = np.zeros(local.size + 2, np.float32)

    announced = finished = False
    while not finished:
        started, before = time.monotonic(), comm.metrics()
        comm.admit()  # where a newcomer was let in, so that its first call returns at once
        give_state_to_newcomers(comm, shared)
        view = comm.view
        if not announced:
            announced = True
            tell("joined", rank=view.rank, size=view.size, round=shared.round)

        # Every round deals the images anew, so a group of any size covers them.
        order = np.random.default_rng((seed, shared.round)).permutation(len(data["train_images"]))
        share = order[view.rank :: view.size]
        batches = np.random.default_rng((seed, shared.round, view.rank))
        local[:] = shared.weights
        losses = []
        for step in range(LOCAL_STEPS):
            if step == LOCAL_STEPS // 2:
                tell("halfway", round=shared.round)
            batch = batches.choice(share, BATCH)
            loss, gradient = network.loss_and_gradient(data["train_images"][batch], data["train_labels"][batch])
            inner.step(local, gradient)
            losses.append(loss)

        message[:-2] = shared.weights - local
        message[-2:] = np.mean(losses), told.is_set()
        _, info = comm.all_reduce(message, "avg", return_info=True)
        shared.outer_step(message[:-2])
        finished = message[-1] == 1

        local[:] = shared.weights
        after, seconds = comm.metrics(), time.monotonic() - started
        tell(
            "round",
            round=shared.round - 1,
            participants=info.participants,
            attempts=info.attempts,
            members=[member.name for member in comm.members],
            loss=float(message[-2]),
            accuracy=network.accuracy(data["test_images"], data["test_labels"]),
            bytes=after.bytes_sent - before.bytes_sent,
            seconds=seconds,
            reduce_seconds=info.seconds,
            peers_lost=after.peers_lost,
        )
    local[:] = shared.weights
    accuracy = network.accuracy(data["test_images"], data["test_labels"])
    tell("done", digest=shared.digest(), accuracy=accuracy, rounds=shared.round)


def main() -> None:
    parser = argparse.ArgumentParser(description="One peer of the digits example.")
    parser.add_argument("--coordinator", required=True, help="HOST:PORT")
    parser.add_argument("--data", required=True, help="the images, as demo.py writes them")
    parser.add_argument("--name", required=True)
    parser.add_argument("--min-size", type=int, default=1, help="peers that a new group waits for")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with np.load(arguments.data) as archive:
        data = dict(archive)
    with hawser.connect(
        arguments.coordinator, name=arguments.name, min_size=arguments.min_size, join_timeout=30, op_timeout=30
    ) as comm:
        train(comm, data, arguments.seed)


if __name__ == "__main__":
    main()
