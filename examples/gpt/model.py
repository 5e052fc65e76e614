"""A small GPT over characters: pre-norm blocks of causal attention and GELU layers, tied embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Size:
    """What one run costs and how good it gets."""

    layers: int
    heads: int
    width: int
    context: int  # characters that a prediction sees
    batch: int  # sequences of one peer in one step
    steps: int
    text: int  # bytes, at most
    learning_rate: float
    warmup: int


SIZES = {
    "full": Size(2, 2, 64, 64, 32, 2000, 8_000_000, 5e-3, 100),
    "small": Size(2, 2, 64, 64, 8, 200, 1_000_000, 3e-3, 20),
}


class Block(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.norm1, self.norm2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.qkv = nn.Linear(size.width, 3 * size.width, bias=False)
        self.mix = nn.Linear(size.width, size.width, bias=False)
        self.up, self.down = nn.Linear(size.width, 4 * size.width), nn.Linear(4 * size.width, size.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).reshape(batch, length, width))
        deeper: torch.Tensor = self.down(F.gelu(self.up(self.norm2(x))))
        return x + deeper


class Gpt(nn.Module):
    def __init__(self, size: Size, characters: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, size.width)
        self.places = nn.Embedding(size.context, size.width)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(size.layers)))
        self.norm = nn.LayerNorm(size.width)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # Those that add to the residual stream: less, the more of them there are.
                deep = name.endswith(("mix.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * size.layers) if deep else 0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.characters(tokens) + self.places.weight[: tokens.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.characters.weight)


def loss_of(model: nn.Module, sequences: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the next character, in nats."""
    return F.cross_entropy(model(sequences[:, :-1]).flatten(0, 1), sequences[:, 1:].flatten())
