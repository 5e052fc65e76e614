"""One peer of the digits example: DiLoCo rounds (Douillard et al., arXiv 2311.08105) over a group that changes.

A round is: some AdamW steps on this peer's share of the images; one hawser.DiLoCo step, which averages over all members
how far each one moved, in 8 bits a parameter, and lets newcomers in. Losing a member costs a retry inside the call. A
newcomer gets weights, momentum and the number of rounds from the members. At the end all compare what they hold.

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
from model import AdamW, Mlp, initial_parameters

LOCAL_STEPS = 20
BATCH = 32


def tell(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


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
    parameters = initial_parameters(seed)  # of a newcomer: replaced by what the members have
    network, inner = Mlp(parameters), AdamW(parameters.size)
    with hawser.DiLoCo(comm, {"parameters": parameters}, compression="int8", error_feedback=True) as outer:
        outer.sync()
        tell("joined", rank=comm.rank, size=comm.size, round=outer.round)
        finished = False
        while not finished:
            started, before = time.monotonic(), comm.metrics()
            number, view = outer.round, comm.view
            # Every round deals the images anew, so a group of any size covers them.
            order = np.random.default_rng((seed, number)).permutation(len(data["train_images"]))
            share = order[view.rank :: view.size]
            batches = np.random.default_rng((seed, number, view.rank))
            losses = []
            for step in range(LOCAL_STEPS):
                if step == LOCAL_STEPS // 2:
                    tell("halfway", round=number)
                batch = batches.choice(share, BATCH)
                loss, gradient = network.loss_and_gradient(data["train_images"][batch], data["train_labels"][batch])
                inner.step(parameters, gradient)
                losses.append(loss)

            # Who has been told to finish is decided together, or one would leave the others in the next round.
            message = np.array([np.mean(losses), told.is_set()], np.float32)
            _, info = comm.all_reduce(message, "avg", return_info=True)
            finished = message[1] == 1
            members = [member.name for member in comm.members]
            outcome = outer.step(weight=LOCAL_STEPS)

            after, seconds = comm.metrics(), time.monotonic() - started
            tell(
                "round",
                round=number,
                participants=outcome.participants,
                attempts=info.attempts + outcome.attempts - 1,
                members=members,
                loss=float(message[0]),
                accuracy=network.accuracy(data["test_images"], data["test_labels"]),
                bytes=after.bytes_sent - before.bytes_sent,
                seconds=seconds,
                reduce_seconds=info.seconds + outcome.wait_seconds,
                peers_lost=after.peers_lost,
            )
    with hawser.SharedState({"parameters": parameters}) as state:
        root = state.check(comm).root  # raises when any member holds something else
    accuracy = network.accuracy(data["test_images"], data["test_labels"])
    tell("done", digest=hashlib.sha256(parameters.tobytes()).hexdigest(), root=root, accuracy=accuracy)


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
