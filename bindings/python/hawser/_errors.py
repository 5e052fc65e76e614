"""The exceptions of Hawser.

One class for each category of the library's status list, so that an ``except`` clause says what the program will do
about it. The table of statuses comes from the C header through the extension; nothing of it is written down twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hawser import _hawser

if TYPE_CHECKING:
    from hawser._work import ManyInfo


class Error(Exception):
    """Any failure that Hawser reports.

    ``name`` and ``code`` are the status of the C API, such as ``"PEER_LOST"`` and 40. The text says who, where, and
    what to change.
    """

    code: int = 0
    name: str = ""
    info: ManyInfo | None = None
    """Of ``all_reduce_many``, when anything had started: which tensors have their results all the same."""

    def __init__(self, message: str = "", *, code: int | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
            self.name = STATUS_NAMES.get(code, "UNKNOWN")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), str(self), self.code))


class UsageError(Error):
    """Fix the call or the configuration; the communicator stays usable."""


class ArgumentTypeError(UsageError, TypeError):
    """An argument is of the wrong type: no tensor, or of an element type that Hawser does not reduce."""


class ArgumentValueError(UsageError, ValueError):
    """An argument is of the right type but cannot be used as it is: not contiguous, read-only, elsewhere, out of
    range.
    """


class RetryError(Error):
    """Call again; inputs are as they were."""


class DeadlineError(RetryError, TimeoutError):
    """TIMEOUT: the deadline passed. Also a built-in ``TimeoutError``."""


class PendingError(Error, TimeoutError):
    """PENDING: the wait was over before the operation was, which goes on. Also a built-in ``TimeoutError``."""


class PeerLostError(Error):
    """A peer went away; the new view is installed, retry at once."""


class CoordinatorError(Error):
    """Check the coordinator's address and process, then retry or rejoin."""


class MembershipError(Error):
    """This communicator is no longer a member; make a new one, join and take the others' state."""


class ResourceError(Error):
    """Free memory, descriptors, ports or disk, then retry."""


class InternalError(Error):
    """A bug of the library or of the hardware; report it."""


STATUS_NAMES: dict[int, str] = {value: name for name, value, _, _ in _hawser.STATUSES}
STATUS_CODES: dict[str, int] = {name: value for name, value, _, _ in _hawser.STATUSES}

_CLASS_OF_CATEGORY: dict[str, type[Error]] = {
    "NONE": Error,
    "USAGE": UsageError,
    "RETRY": RetryError,
    "PEER_LOST": PeerLostError,
    "COORDINATOR": CoordinatorError,
    "MEMBERSHIP": MembershipError,
    "RESOURCE": ResourceError,
    "INTERNAL": InternalError,
}

# Statuses that Python has a word of its own for.
_CLASS_OF_NAME: dict[str, type[Error]] = {
    "PENDING": PendingError,
    "INVALID_ARGUMENT": ArgumentValueError,
    "BAD_ADDRESS": ArgumentValueError,
    "TIMEOUT": DeadlineError,
}

_CLASS_OF_CODE: dict[int, type[Error]] = {
    value: _CLASS_OF_NAME.get(name, _CLASS_OF_CATEGORY[category]) for name, value, category, _ in _hawser.STATUSES
}
_SENTENCE_OF_CODE: dict[int, str] = {value: sentence for _, value, _, sentence in _hawser.STATUSES}

ArgumentTypeError.code = ArgumentValueError.code = STATUS_CODES["INVALID_ARGUMENT"]
ArgumentTypeError.name = ArgumentValueError.name = "INVALID_ARGUMENT"
PendingError.code, PendingError.name = STATUS_CODES["PENDING"], "PENDING"


def error_of_status(code: int, sentence: str) -> Error:
    """The exception for a status of the C API; ``sentence`` is hawser_last_error, and may be empty."""
    message = sentence or _SENTENCE_OF_CODE.get(code, "a status that this package does not know")
    return _CLASS_OF_CODE.get(code, InternalError)(message, code=code)


def _rebuild(kind: type[Error], message: str, code: int) -> Error:
    return kind(message, code=code)
