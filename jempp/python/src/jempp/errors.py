"""Exceptions, one for each way in which the library's calls fail, beside Python's own."""
from __future__ import annotations


class JemppError(Exception):
    """Base class of the exceptions below."""


class FormatError(JemppError, ValueError):
    """A file is damaged or in another format, or lacks what was requested."""


class DeviceError(JemppError, RuntimeError):
    """A compute device is missing or failed."""


class BusyError(JemppError, RuntimeError):
    """Another thread is using the trainer."""


class Diverged(JemppError, ArithmeticError):
    """Training diverged, or a sampling chain left the finite numbers."""


class Cancelled(JemppError, RuntimeError):
    """A progress callback returned False."""


class InternalError(JemppError, RuntimeError):
    """A bug in the library, which should be reported; the model or trainer can only be closed."""


def of_status(status: int, message: str, path: str | None) -> BaseException:
    """The exception for a status of the C interface. `path` is the file that the call was about, if any."""
    if status == 2:
        import os

        missing = path is not None and not os.path.exists(path)
        return FileNotFoundError(message) if missing else OSError(message)
    kinds: dict[int, type[Exception]] = {
        1: ValueError,
        3: FormatError,
        4: DeviceError,
        5: MemoryError,
        6: BusyError,
        7: Diverged,
        8: Cancelled,
    }
    return kinds.get(status, InternalError)(message)
