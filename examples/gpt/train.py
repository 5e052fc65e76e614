"""One peer that trains a character-level GPT together with others, by one of two methods:

diloco    every peer trains on its own; every H steps the peers average what they have moved (hawser.torch.DiLoCo)
parallel  plain data-parallel training: the peers average their gradients in every step (DistributedDataParallel, whose
          communication goes through Hawser)

Both see the same number of characters in the same number of steps. Anywhere that reaches the coordinator:

    hawser coordinator --listen 0.0.0.0:4900
    python train.py --coordinator HOST:4900 --peers 4 --method diloco     # four times

Writes what happens as JSON lines to stdout. compare.py runs both methods and compares them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import zlib
from typing import Any

import hawser
import hawser.torch
import torch
from model import SIZES, Gpt, Size, loss_of
from text import CHARACTERS, Text, batch_of
from torch import distributed, nn

VALIDATION_BATCHES = 16


def tell(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def schedule(size: Size) -> Any:
    """Linear warm-up, then a cosine down to a tenth."""

    def factor(step: int) -> float:
        if step < size.warmup:
            return (step + 1) / size.warmup
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - size.warmup) / (size.steps - size.warmup)))

    return factor


@torch.no_grad()
def validate(model: nn.Module, text: Text, size: Size) -> float:
    generator = torch.Generator().manual_seed(1)
    batches = [batch_of(text.validation, 32, size.context, generator) for _ in range(VALIDATION_BATCHES)]
    return float(torch.stack([loss_of(model, batch) for batch in batches]).mean())


def train(comm: hawser.Communicator, arguments: argparse.Namespace) -> None:
    size = SIZES[arguments.size]
    text = Text(size.text)
    torch.manual_seed(arguments.seed)
    gpt = Gpt(size, len(CHARACTERS))
    model: nn.Module = gpt
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(
        gpt.parameters(), lr=size.learning_rate, betas=(0.9, 0.95), weight_decay=0.1
    )
    if arguments.method == "diloco":
        optimizer = hawser.torch.DiLoCo(
            optimizer,
            comm,
            arguments.h,
            lr=arguments.outer_lr,
            momentum=arguments.outer_momentum,
            compression=None if arguments.compression == "none" else arguments.compression,
            named_parameters=gpt.named_parameters(),
        )
    else:
        with hawser.SharedState(gpt.state_dict()) as state:
            state.sync(comm)
        # A process group of this process alone: who trains together is the communicator's business.
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
        model = nn.parallel.DistributedDataParallel(gpt)
        model.register_comm_hook(None, hawser.torch.ddp_hook(comm))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(size))
    tell(
        "joined", rank=comm.rank, size=comm.size, text=text.digest, characters=len(text.train),
        parameters=sum(parameter.numel() for parameter in gpt.parameters()),
    )  # fmt: skip

    generator = torch.Generator().manual_seed(1000 * arguments.seed + comm.rank)
    before = comm.metrics().bytes_sent
    seconds = 0.0
    for step in range(size.steps):
        started = time.monotonic()
        loss = loss_of(model, batch_of(text.train, size.batch, size.context, generator))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        seconds += time.monotonic() - started
        # After a round the parameters are the anchor, which is what is to be judged.
        if (step + 1) % arguments.h == 0 or step + 1 == size.steps:
            tell(
                "step", step=step + 1, seconds=seconds, bytes=comm.metrics().bytes_sent - before,
                train=loss.item(), validation=validate(gpt, text, size) if comm.rank == 0 else None,
            )  # fmt: skip
    if isinstance(optimizer, hawser.torch.DiLoCo) and optimizer.steps_in_round:
        optimizer.outer_step()  # H does not divide the steps
    digest = zlib.crc32(b"".join(tensor.numpy().tobytes() for tensor in gpt.state_dict().values()))
    tell("done", seconds=seconds, bytes=comm.metrics().bytes_sent - before, digest=digest)
    comm.barrier()


def main() -> None:
    parser = argparse.ArgumentParser(description="One peer that trains a small GPT together with others.")
    parser.add_argument("--coordinator", required=True, help="HOST:PORT")
    parser.add_argument("--peers", type=int, default=4, help="that a new group waits for (default: 4)")
    parser.add_argument("--name", help="shown to others")
    parser.add_argument("--listen", help="HOST[:PORT] for connections of other peers (default: chosen by hawser)")
    parser.add_argument("--method", choices=("diloco", "parallel"), default="diloco")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--h", type=int, default=50, help="steps of a round (default: 50)")
    parser.add_argument("--compression", default="int8", help="of rounds: int8, int4, bf16, ..., none (default: int8)")
    parser.add_argument("--outer-lr", type=float, default=0.9)
    parser.add_argument("--outer-momentum", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with hawser.connect(
        arguments.coordinator, name=arguments.name, min_size=arguments.peers, listen=arguments.listen, op_timeout=300
    ) as comm:
        train(comm, arguments)


if __name__ == "__main__":
    main()
