"""Checking arguments and turning them into the library's units."""

from __future__ import annotations

import math
import operator
from typing import SupportsIndex

from hawser._errors import ArgumentTypeError, ArgumentValueError

# What the waits of the extension take as "no limit".
NO_LIMIT_MS = 0xFFFFFFFF


def _milliseconds(seconds: object, what: str) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ArgumentTypeError(f"{what}: {seconds!r} is not a number of seconds")
    if math.isnan(seconds) or seconds < 0:
        raise ArgumentValueError(f"{what}: {seconds!r} is not a length of time")
    return NO_LIMIT_MS - 1 if seconds * 1000 >= NO_LIMIT_MS else math.ceil(seconds * 1000)


def timeout_ms(seconds: float | None, what: str = "timeout") -> int:
    """A deadline for the library, which takes 0 as its default: None."""
    if seconds is None:
        return 0
    milliseconds = _milliseconds(seconds, what)
    if milliseconds == 0:
        raise ArgumentValueError(f"{what}: must be more than 0 seconds, or None for the default")
    return milliseconds


def wait_ms(seconds: float | None, what: str = "timeout") -> int:
    """How long to wait for something; 0 looks once, None waits without a limit of its own."""
    return NO_LIMIT_MS if seconds is None else _milliseconds(seconds, what)


def integer(value: SupportsIndex, what: str, low: int, high: int) -> int:
    """``value`` as an int within low..high."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ArgumentTypeError(f"{what}: {value!r} is not an integer") from None
    if not low <= number <= high:
        raise ArgumentValueError(f"{what}: {number} is not within {low}..{high}")
    return number


def number(value: object, what: str) -> float:
    """``value`` as a finite float; NumPy's numbers too."""
    if isinstance(value, (bool, str, bytes)):
        raise ArgumentTypeError(f"{what}: {value!r} is not a number")
    try:
        converted = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{what}: {value!r} is not a number") from None
    if not math.isfinite(converted):
        raise ArgumentValueError(f"{what}: {converted} is not finite")
    return converted


def u32(value: SupportsIndex, what: str) -> int:
    return integer(value, what, 0, 0xFFFFFFFF)


def text(value: object, what: str) -> str | None:
    """``value`` as a string for the library, None for its default."""
    if value is not None and not isinstance(value, str):
        raise ArgumentTypeError(f"{what}: {value!r} is not a string")
    if value is not None and "\0" in value:
        raise ArgumentValueError(f"{what}: contains a NUL character")
    return value


def choice(value: object, what: str, choices: dict[str, int]) -> int:
    """The number behind a name."""
    number = choices.get(value) if isinstance(value, str) else None
    if number is None:
        raise ArgumentValueError(f"{what}: {value!r} is none of {', '.join(choices)}")
    return number
