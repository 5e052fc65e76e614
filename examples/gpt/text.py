"""Real text that any Debian machine has: the licences of its packages, and the sources of Python's standard library.

Characters are those of ASCII that are printed, and the end of the line; all others become "?". The last part of every
file is for validation, so that it is of the same kinds as what is trained on, and unseen.
"""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path

import torch

LICENCES = Path("/usr/share/common-licenses")
VALIDATION_SHARE = 0.05

CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
_TOKEN_OF_BYTE = torch.full((256,), CHARACTERS.index("?"))
_TOKEN_OF_BYTE[[ord(character) for character in CHARACTERS]] = torch.arange(len(CHARACTERS))


class Text:
    """``train`` and ``validation``: tokens, one a character; ``digest``: equal for equal text."""

    def __init__(self, bytes_max: int) -> None:
        train, validation, total = [], [], 0
        for path in _files():
            content = path.read_bytes()
            if total + len(content) > bytes_max:
                continue
            total += len(content)
            cut = len(content) - int(VALIDATION_SHARE * len(content))
            train.append(content[:cut])
            validation.append(content[cut:])
        self.train, self.validation = _tokens(b"".join(train)), _tokens(b"".join(validation))
        self.digest = hashlib.sha256(self.train.numpy().tobytes()).hexdigest()[:16]
        if len(self.train) < 100_000:
            raise SystemExit(f"too little text in {LICENCES} and {sysconfig.get_path('stdlib')}")


def _files() -> list[Path]:
    licences = sorted({path.resolve() for path in LICENCES.glob("*")}) if LICENCES.is_dir() else []
    return licences + sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def _tokens(content: bytes) -> torch.Tensor:
    return _TOKEN_OF_BYTE[torch.frombuffer(bytearray(content), dtype=torch.uint8).long()].to(torch.uint8)


def batch_of(tokens: torch.Tensor, count: int, context: int, generator: torch.Generator) -> torch.Tensor:
    """``count`` pieces of ``context`` + 1 tokens from random places."""
    starts = torch.randint(len(tokens) - context - 1, (count, 1), generator=generator)
    return tokens[starts + torch.arange(context + 1)].long()
