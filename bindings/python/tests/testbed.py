"""A small training problem with known outcomes, for tests of what is trained with Hawser.

Inputs x ~ N(0, I) of 32 numbers; teacher and student are 32-64-64-10 networks (leaky ReLU, 6,922 parameters); labels
are sampled from the teacher's softmax at 2.5 times its logits. Workers take 1,500 steps of AdamW with 32 samples each.
The measure is the **excess** of the student's cross-entropy over the teacher's own on held-out inputs, in expectation
over the labels: the mean Kullback-Leibler divergence.

Teacher and first student come from the C++ standard's mt19937_64 and libstdc++'s normal_distribution, so that the
problem is the one for which outcomes were measured with a program of its own (ANCHORS); samples come from NumPy.

Everything has a leading axis of workers, so that one process can run eight at NumPy's speed; ``reference`` does,
without the library. Run as a program it prints the table of methods.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

WORKERS = 8
BATCH = 32
STEPS = 1500
SHAPES: dict[str, tuple[int, ...]] = {
    "w1": (32, 64), "b1": (64,), "w2": (64, 64), "b2": (64,), "w3": (64, 10), "b3": (10,),
}  # fmt: skip
SIZE = sum(math.prod(shape) for shape in SHAPES.values())
TEMPERATURE = 2.5
EVALUATED = 16384

# Excess after 1,500 steps, the mean of three runs. Outer methods: (H, outer learning rate, outer momentum, delayed).
ANCHORS = {
    "one worker": 0.347,
    "8x batch": 0.239,
    (10, 0.7, 0.9, False): 0.257,
    (10, 0.7, 0.5, False): 0.274,
    (10, 1.0, 0.0, False): 0.296,  # FedAvg
    (10, 0.7, 0.0, True): 0.338,
    (10, 0.4, 0.5, True): 0.325,
    (50, 0.7, 0.9, False): 0.291,
    (50, 0.7, 0.5, False): 0.282,
    (50, 0.7, 0.0, True): 0.344,
    (50, 0.4, 0.5, True): 0.335,
    (150, 0.7, 0.5, False): 0.292,
}


def mersenne_normals(seed: int) -> Iterator[float]:
    """std::normal_distribution<double> over std::mt19937_64, as libstdc++ does it (the polar method)."""
    mask = 2**64 - 1
    state = [seed]
    for index in range(1, 312):
        state.append((6364136223846793005 * (state[-1] ^ (state[-1] >> 62)) + index) & mask)

    def uniforms() -> Iterator[float]:
        while True:
            for index in range(312):
                joined = (state[index] & ~0x7FFFFFFF & mask) | (state[(index + 1) % 312] & 0x7FFFFFFF)
                state[index] = state[(index + 156) % 312] ^ (joined >> 1) ^ (0xB5026F5AA96619E9 if joined & 1 else 0)
            for word in state:
                word ^= (word >> 29) & 0x5555555555555555
                word ^= (word << 17) & 0x71D67FFFEDA60000
                word ^= (word << 37) & 0xFFF7EEE000000000
                yield (word ^ (word >> 43)) / 2.0**64

    uniform = uniforms()
    while True:
        x, y = 2 * next(uniform) - 1, 2 * next(uniform) - 1
        square = x * x + y * y
        if 0 < square <= 1:
            scale = math.sqrt(-2 * math.log(square) / square)
            yield y * scale
            yield x * scale


def views(vector: Array) -> dict[str, Array]:
    """The tensors of a parameter vector (its last axis), by name; they share its memory."""
    tensors, start = {}, 0
    for name, shape in SHAPES.items():
        end = start + math.prod(shape)
        tensors[name] = vector[..., start:end].reshape(*vector.shape[:-1], *shape)
        start = end
    return tensors


def network(seed: int, gain: float = 1.0) -> Array:
    """Weights of variance 2/32, 2/64 and 1/64, biases 0."""
    normals = mersenne_normals(seed)
    vector = np.zeros(SIZE, np.float32)
    for name, variance in (("w1", 2 / 32), ("w2", 2 / 64), ("w3", 1 / 64)):
        tensor = views(vector)[name]
        tensor.flat = [gain * math.sqrt(variance) * next(normals) for _ in range(tensor.size)]
    return vector


def forward(vector: Array, x: Array) -> list[Array]:
    """The activations of each layer. vector: (workers, SIZE), x: (workers, samples, 32); or both without workers."""
    layers = views(vector)
    activations = [x]
    for number in (1, 2, 3):
        values = activations[-1] @ layers[f"w{number}"]
        values += layers[f"b{number}"][..., None, :]
        activations.append(values if number == 3 else np.maximum(values, np.float32(0.01) * values))
    return activations


def log_softmax(logits: Array) -> Array:
    shifted: Array = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


class Problem:
    """Teacher, held-out inputs, and batches of every worker."""

    def __init__(self) -> None:
        self.teacher = network(7, gain=1.2)
        self.x = np.random.default_rng(99).standard_normal((EVALUATED, 32), np.float32)
        self.expected = log_softmax(np.float32(TEMPERATURE) * forward(self.teacher, self.x)[-1])

    def samples(self, rng: np.random.Generator, count: int) -> tuple[Array, NDArray[np.int64]]:
        x = rng.standard_normal((count, 32), np.float32)
        logits = np.float32(TEMPERATURE) * forward(self.teacher, x)[-1]
        # Gumbel: the largest of logits with such noise is a sample of their softmax.
        return x, (logits + rng.gumbel(size=logits.shape)).argmax(axis=-1)

    def excess(self, vector: Array) -> float:
        """Of a student's parameters, (SIZE,)."""
        got = log_softmax(forward(vector, self.x)[-1])
        return float((np.exp(self.expected) * (self.expected - got)).sum(axis=-1).mean())


class Worker:
    """Inner training of ``workers`` students at once: parameters, AdamW, batches. A process of its own has one."""

    def __init__(self, problem: Problem, numbers: range, run: int, batch: int = BATCH, steps: int = STEPS) -> None:
        self.parameters = np.tile(network(1), (len(numbers), 1))
        self.m, self.v = np.zeros_like(self.parameters), np.zeros_like(self.parameters)
        self.t, self.steps = 0, steps
        drawn = [problem.samples(np.random.default_rng((100 + number, run)), steps * batch) for number in numbers]
        self.x = np.stack([x.reshape(steps, batch, 32) for x, _ in drawn], axis=1)
        self.labels = np.stack([labels.reshape(steps, batch) for _, labels in drawn], axis=1)

    def gradient(self, x: Array, labels: NDArray[np.int64]) -> Array:
        activations = forward(self.parameters, x)
        delta = np.exp(log_softmax(activations[-1]))
        workers, batch = labels.shape
        delta[np.arange(workers)[:, None], np.arange(batch), labels] -= 1
        delta /= np.float32(batch)
        gradient = np.empty_like(self.parameters)
        layers, slots = views(self.parameters), views(gradient)
        for number in (3, 2, 1):
            slots[f"w{number}"][:] = activations[number - 1].swapaxes(-1, -2) @ delta
            slots[f"b{number}"][:] = delta.sum(axis=-2)
            if number > 1:
                delta = delta @ layers[f"w{number}"].swapaxes(-1, -2)
                delta *= np.where(activations[number - 1] > 0, np.float32(1), np.float32(0.01))
        return gradient

    def step(self, average: Callable[[Array], Array] | None = None) -> None:
        """One step of AdamW (beta 0.9, 0.99): warm-up over 50 steps, then a cosine down to a tenth."""
        gradient = self.gradient(self.x[self.t % self.steps], self.labels[self.t % self.steps])
        if average is not None:
            gradient = average(gradient)
        rate = 6e-3 * (
            (self.t + 1) / 50 if self.t < 50
            else 0.1 + 0.45 * (1 + math.cos(math.pi * (min(self.t, STEPS) - 50) / (STEPS - 50)))
        )  # fmt: skip
        self.t += 1
        self.m += np.float32(0.1) * (gradient - self.m)
        self.v += np.float32(0.01) * (gradient * gradient - self.v)
        root = np.sqrt(self.v * np.float32(1 / (1 - 0.99**self.t)))
        root += np.float32(1e-8)
        self.parameters -= np.float32(rate / (1 - 0.9**self.t)) * self.m / root


@dataclass
class Outer:
    """The outer step in NumPy: what the library does, said again (docs/outer-steps.md)."""

    anchor: Array
    lr: float
    momentum: float
    delayed: bool = False

    def __post_init__(self) -> None:
        self.velocity = np.zeros_like(self.anchor)
        self.pending: Array | None = None

    def apply(self, average: Array) -> None:
        self.velocity = np.float32(self.momentum) * self.velocity + average
        self.anchor = self.anchor - np.float32(self.lr) * (average + np.float32(self.momentum) * self.velocity)

    def step(self, parameters: Array) -> None:
        average = (self.anchor - parameters).mean(axis=0, dtype=np.float32)
        if self.delayed:
            average, self.pending = self.pending, average
        if average is not None:
            self.apply(average)
        parameters[:] = self.anchor

    def finish(self) -> None:
        if self.pending is not None:
            self.apply(self.pending)


def one_worker(problem: Problem, run: int, batch: int = BATCH, steps: int = STEPS) -> float:
    """Without any averaging; batch 256: what eight workers that average every gradient do."""
    worker = Worker(problem, range(1), run, batch, steps)
    for _ in range(steps):
        worker.step()
    return problem.excess(worker.parameters[0])


def reference(
    problem: Problem, run: int, h: int, lr: float, momentum: float, delayed: bool = False, steps: int = STEPS
) -> float:
    """Eight workers in this process, without the library."""
    worker = Worker(problem, range(WORKERS), run, steps=steps)
    outer = Outer(network(1), lr, momentum, delayed)
    for step in range(steps):
        worker.step()
        if (step + 1) % h == 0:
            outer.step(worker.parameters)
    outer.finish()
    return problem.excess(outer.anchor)


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints the excess of each method, without the library.")
    parser.add_argument("--runs", type=int, default=3, help="runs with other samples (default: 3)")
    arguments = parser.parse_args()
    problem = Problem()
    for method, anchor in ANCHORS.items():
        started = time.monotonic()
        values: list[Any] = []
        for run in range(arguments.runs):
            if isinstance(method, tuple):
                values.append(reference(problem, run, *method))
            else:
                values.append(one_worker(problem, run, BATCH if method == "one worker" else BATCH * WORKERS))
        mean = float(np.mean(values))
        each = " ".join(f"{value:.4f}" for value in values)
        seconds = time.monotonic() - started
        print(f"{method!s:28} {mean:.4f}  expected {anchor}  {mean / anchor - 1:+.1%}   [{each}]  {seconds:.1f} s")


if __name__ == "__main__":
    main()
