"""A classifier of the UCI handwritten digits in NumPy: 64 pixels, two hidden layers, 10 classes, trained with AdamW.

All parameters lie in one vector, so that one collective moves them all; the layers are views of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

LAYERS = (64, 256, 128, 10)


class Mlp:
    """The network over a parameter vector that it does not own: whoever changes the vector changes the network."""

    def __init__(self, parameters: Array) -> None:
        self.gradient = np.zeros_like(parameters)
        self.layers = list(_layers_of(parameters))
        self.gradients = list(_layers_of(self.gradient))

    def logits(self, images: Array) -> Array:
        return self._forward(images)[-1]

    def loss_and_gradient(self, images: Array, labels: NDArray[np.int64]) -> tuple[float, Array]:
        """Mean cross-entropy and its gradient; the gradient is valid until the next call."""
        activations = self._forward(images)
        shifted = activations[-1] - activations[-1].max(axis=1, keepdims=True)
        exponentials = np.exp(shifted)
        sums = exponentials.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = float((np.log(sums[:, 0]) - shifted[rows, labels]).mean())
        delta = exponentials / sums
        delta[rows, labels] -= 1
        delta /= np.float32(len(labels))
        for index in range(len(self.layers) - 1, -1, -1):
            weight_gradient, bias_gradient = self.gradients[index]
            np.matmul(activations[index].T, delta, out=weight_gradient)
            np.sum(delta, axis=0, out=bias_gradient)
            if index > 0:
                delta = (delta @ self.layers[index][0].T) * (activations[index] > 0)
        return loss, self.gradient

    def accuracy(self, images: Array, labels: NDArray[np.int64]) -> float:
        return float((self.logits(images).argmax(axis=1) == labels).mean())

    def _forward(self, images: Array) -> list[Array]:
        activations = [images]
        for index, (weight, bias) in enumerate(self.layers):
            values = activations[-1] @ weight + bias
            activations.append(values if index == len(self.layers) - 1 else np.maximum(values, 0))
        return activations


class AdamW:
    """Decoupled weight decay: Loshchilov and Hutter, ICLR 2019 (arXiv 1711.05101)."""

    def __init__(self, size: int, learning_rate: float = 3e-4, weight_decay: float = 1e-2) -> None:
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.mean, self.square, self.steps = np.zeros(size, np.float32), np.zeros(size, np.float32), 0

    def step(self, parameters: Array, gradient: Array) -> None:
        self.steps += 1
        self.mean += 0.1 * (gradient - self.mean)
        self.square += 0.001 * (gradient * gradient - self.square)
        mean = self.mean / (1 - 0.9**self.steps)
        square = self.square / (1 - 0.999**self.steps)
        parameters -= self.learning_rate * (mean / (np.sqrt(square) + 1e-8) + self.weight_decay * parameters)


def parameter_count() -> int:
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(LAYERS))


def initial_parameters(seed: int) -> Array:
    """He initialisation: weights of variance 2 / inputs, biases 0."""
    rng = np.random.default_rng(seed)
    parameters = np.zeros(parameter_count(), np.float32)
    for weight, _ in _layers_of(parameters):
        weight[:] = rng.standard_normal(weight.shape, np.float32) * np.float32(np.sqrt(2 / weight.shape[0]))
    return parameters


def _layers_of(vector: Array) -> Iterator[tuple[Array, Array]]:
    """Weights and biases of each layer, as views of the vector."""
    start = 0
    for inputs, outputs in pairwise(LAYERS):
        weight = vector[start : start + inputs * outputs].reshape(inputs, outputs)
        bias = vector[start + inputs * outputs : start + (inputs + 1) * outputs]
        start += (inputs + 1) * outputs
        yield weight, bias
