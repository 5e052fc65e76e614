"""One rank of Gloo, through torch.distributed, for tools/compare: an all-reduce of floats, measured as `hawser bench all-reduce`
measures: warm-up, one barrier, then rank 0 times every call; processor time is that of all ranks. Ends with one more
operation on known values, of which every element is compared.

    gloo_rank.py RENDEZVOUS RANK RANKS

Stays for the whole comparison, because to import torch takes seconds: each line of standard input, the same for all ranks, is
"BYTES ITERATIONS WARMUP in|out" and asks for one measurement, which rank 0 prints as a line of JSON. Between lines it sleeps.
torch.distributed reduces in place only: "out" copies the input first, as a caller who keeps it would have to.
"""

import gc
import json
import sys
import time

import torch
import torch.distributed as dist


def percentile(values, percent):
    """Nearest rank, as hawser bench has it."""
    return sorted(values)[max(0, (percent * len(values) + 99) // 100 - 1)]


def measure(rank, ranks, size, iterations, warmup, in_place):
    count = size // 4
    result = torch.zeros(count)
    own = result if in_place else torch.zeros(count)

    def reduce():
        if not in_place:
            result.copy_(own)
        dist.all_reduce(result, op=dist.ReduceOp.SUM)

    for _ in range(warmup):
        reduce()
    times = [0] * iterations
    now = time.perf_counter_ns
    dist.barrier()
    cpu = time.process_time_ns()
    for i in range(iterations):
        begin = now()
        reduce()
        times[i] = now() - begin
    cpu = time.process_time_ns() - cpu

    # Whole numbers up to 2^24: the sum is exact in any order.
    pattern = torch.arange(count, dtype=torch.int32).remainder_(1021)
    own.copy_(pattern.add(rank))
    reduce()
    expected = pattern.mul_(ranks).add_(ranks * (ranks - 1) // 2).to(torch.float32)
    sums = torch.tensor([cpu, int((result != expected).sum())], dtype=torch.int64)
    dist.all_reduce(sums)
    return {
        "time_us_p50": percentile(times, 50) / 1e3,
        "time_us_p99": percentile(times, 99) / 1e3,
        "cpu_ns_per_byte": int(sums[0]) / (count * 4 * ranks * iterations),
        "wrong": int(sums[1]),
        "iters": iterations,
    }


def main():
    rendezvous, rank, ranks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
    gc.disable()
    if rank == 0:
        print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        size, iterations, warmup, placement = line.split()
        figures = measure(rank, ranks, int(size), int(iterations), int(warmup), placement == "in")
        if rank == 0:
            print(json.dumps(figures), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
