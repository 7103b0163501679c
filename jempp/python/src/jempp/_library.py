"""libjempp: found, loaded at first use, and called. The rules of its functions are in jempp.h.

A handle is bound to the process that made it: the library's threads do not survive a fork.
"""
from __future__ import annotations

import ctypes
import os
import threading
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Callable

from .errors import of_status

ABI, MINOR = 1, 1
"""Version of the ABI that this package is written for, and the lowest minor version that has its functions."""


class ContextOptions(ctypes.Structure):
    """jempp_context_options."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("device", c_char_p),
        ("threads", c_int32),
        ("seed", c_uint64),
        ("precision", c_char_p),
    ]


class ModelInfo(ctypes.Structure):
    """jempp_model_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("channels", c_uint32),
        ("classes", c_uint32),
        ("parameters", c_uint64),
    ]


PROGRESS = ctypes.CFUNCTYPE(c_int, c_uint32, c_uint32, c_void_p)
LOG = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)


class SampleOptions(ctypes.Structure):
    """jempp_sample_options."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("start", c_void_p),
        ("start_len", c_size_t),
        ("labels", c_void_p),
        ("steps", c_uint32),
        ("step_size", c_float),
        ("clip", c_float),
        ("noise", c_float),
        ("seed", c_uint64),
        ("progress", PROGRESS),
        ("user", c_void_p),
    ]


class StepMetricsStruct(ctypes.Structure):
    """jempp_step_metrics."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("step", c_uint64),
        ("loss", c_float),
        ("ce", c_float),
        ("log_density_data", c_float),
        ("log_density_chain", c_float),
        ("accuracy", c_float),
        ("lr", c_float),
    ]


class EvaluationStruct(ctypes.Structure):
    """jempp_evaluation."""

    _fields_ = [("struct_size", c_uint32), ("accuracy", c_double), ("ece", c_double), ("nll", c_double), ("brier", c_double)]


class DeviceInfo(ctypes.Structure):
    """jempp_device_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("ordinal", c_uint32),
        ("name", ctypes.c_char * 128),
        ("memory_total", c_uint64),
        ("memory_free", c_uint64),
        ("is_cuda", c_int32),
        ("compute_capability", c_int32),
    ]


_ARRAY, _HANDLE, _OUT = c_void_p, c_void_p, POINTER(c_void_p)
_INFER = [_HANDLE, _ARRAY, c_size_t, _ARRAY, c_size_t]
_FUNCTIONS: dict[str, list[Any]] = {
    "jempp_context_create": [POINTER(ContextOptions), _OUT],
    "jempp_model_load": [_HANDLE, c_char_p, _OUT],
    "jempp_model_load_memory": [_HANDLE, c_char_p, c_size_t, _OUT],
    "jempp_model_save": [_HANDLE, c_char_p],
    "jempp_model_get_info": [_HANDLE, POINTER(ModelInfo)],
    "jempp_logits": _INFER,
    "jempp_log_density": _INFER,
    "jempp_input_grad": [_HANDLE, _ARRAY, c_size_t, _ARRAY, _ARRAY, c_size_t],
    "jempp_decide": _INFER,
    "jempp_feature_count": [_HANDLE, POINTER(c_uint32)],
    "jempp_features": _INFER,
    "jempp_logits_vjp": [_HANDLE, _ARRAY, c_size_t, _ARRAY, c_size_t, _ARRAY, c_size_t],
    "jempp_evaluate": [
        _HANDLE,
        _ARRAY,
        _ARRAY,
        c_size_t,
        c_uint32,
        PROGRESS,
        c_void_p,
        POINTER(EvaluationStruct),
    ],
    "jempp_fit_thresholds": [_HANDLE, _ARRAY, _ARRAY, c_size_t, c_double, c_double, PROGRESS, c_void_p, _OUT],
    "jempp_sample": [_HANDLE, POINTER(SampleOptions), c_size_t, _ARRAY, c_size_t],
    "jempp_trainer_create": [_HANDLE, c_char_p, _OUT],
    "jempp_trainer_load_model": [_HANDLE, _HANDLE],
    "jempp_trainer_set_init_images": [_HANDLE, _ARRAY, _ARRAY, c_size_t],
    "jempp_trainer_step": [
        _HANDLE,
        _ARRAY,
        c_size_t,
        _ARRAY,
        _ARRAY,
        c_size_t,
        _ARRAY,
        _ARRAY,
        c_size_t,
        POINTER(StepMetricsStruct),
    ],
    "jempp_trainer_model": [_HANDLE, _OUT],
    "jempp_trainer_save": [_HANDLE, c_char_p],
    "jempp_trainer_resume": [_HANDLE, c_char_p, _OUT],
    "jempp_device_count": [POINTER(c_uint32)],
    "jempp_device_get_info": [c_uint32, POINTER(DeviceInfo)],
}

_lock = threading.Lock()
_loaded: ctypes.CDLL | None = None


def _path() -> str:
    return os.environ.get("JEMPP_LIBRARY") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "libjempp.so")


def _open() -> ctypes.CDLL:
    path = _path()
    try:
        dll = ctypes.CDLL(path)
    except OSError as e:
        raise ImportError(f"{e}; install the wheel, or name the library in the environment variable JEMPP_LIBRARY") from e
    dll.jempp_abi_version.restype = c_uint32
    if (found := dll.jempp_abi_version()) != ABI:
        raise ImportError(f"{path} has version {found} of the ABI; this package needs {ABI}: install one of its version")
    minor = dll.jempp_abi_minor() if hasattr(dll, "jempp_abi_minor") else 0
    if minor < MINOR:
        raise ImportError(f"{path} has version 1.{minor} of the ABI; this package needs 1.{MINOR}: install one of its version")
    for name, arguments in _FUNCTIONS.items():
        function = getattr(dll, name)
        function.argtypes, function.restype = arguments, c_int32
    dll.jempp_last_error.restype = c_char_p
    for free in ("jempp_context_free", "jempp_model_free", "jempp_trainer_free"):
        getattr(dll, free).argtypes, getattr(dll, free).restype = [_HANDLE], None
    dll.jempp_set_log_callback.argtypes, dll.jempp_set_log_callback.restype = [c_void_p, c_void_p], None
    _listen(dll)
    return dll


def _listen(dll: ctypes.CDLL) -> None:
    """Passes the library's messages on to the logger `jempp`."""
    import atexit
    import logging

    from ._log import logger as get

    logger = get()
    levels = {1: logging.ERROR, 2: logging.WARNING}

    def log(level: int, message: bytes, _user: object) -> None:
        try:
            logger.log(levels.get(level, logging.INFO), "%s", message.decode("utf-8", "replace"))
        except KeyboardInterrupt:
            # It cannot pass through the library: it comes again when the call has returned.
            import _thread

            _thread.interrupt_main()
        except BaseException:
            pass  # A handler of the host that fails must not end the library's call.

    # The library keeps the callback for the life of the process, so this object must live as long.
    dll.jempp_log = LOG(log)  # type: ignore[attr-defined]
    dll.jempp_set_log_callback(ctypes.cast(dll.jempp_log, c_void_p), None)
    atexit.register(dll.jempp_set_log_callback, None, None)


def library() -> ctypes.CDLL:
    """The library, loaded at the first call."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                _loaded = _open()
    return _loaded


def call(name: str, *arguments: Any, path: str | None = None) -> None:
    """Calls a function that returns a status, without the interpreter lock; raises what the status stands for."""
    dll = library()
    status = getattr(dll, name)(*arguments)
    if status:
        raise of_status(status, dll.jempp_last_error().decode("utf-8", "replace"), path)


def encoded(path: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """A path as the library takes it, and for messages."""
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError("the path holds a NUL byte")
    return raw, os.fsdecode(raw)


class Handle:
    """A model or trainer of the library, freed at the latest when it is garbage."""

    __slots__ = ("_free", "_number", "_pid", "_what")

    def __init__(self, what: str, number: int | None):
        self._what, self._number, self._pid = what, number, os.getpid()
        self._free: Callable[[int], None] = getattr(library(), f"jempp_{what}_free")

    def get(self) -> int:
        """The number to pass to the library."""
        if self._number is None:
            raise ValueError(f"the {self._what} is closed")
        if self._pid != os.getpid():
            raise RuntimeError(
                f"this {self._what} was created before the process forked, and the library's threads do not survive a "
                "fork: create it in the child process, or start processes with multiprocessing.get_context('spawn')"
            )
        return self._number

    @property
    def closed(self) -> bool:
        """Whether it was freed."""
        return self._number is None

    def close(self) -> None:
        """Frees it; calls that other threads have in progress complete."""
        number, self._number = self._number, None
        # A child process has copies of the numbers, but not the threads that freeing would wait for.
        if number is not None and self._pid == os.getpid():
            self._free(number)

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:
            pass  # The interpreter is ending, and with it goes the memory.


def context(device: str, threads: int, precision: str, seed: int = 0) -> Handle:
    """A device with its threads, to create models and trainers in; they keep these alive."""
    options = ContextOptions(ctypes.sizeof(ContextOptions))
    options.device, options.precision = _text(device, "device"), _text(precision, "precision")
    if not 0 <= threads < 2**31:
        raise ValueError(f"threads is {threads}; it must not be negative (0: one per core)")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; it must be from 0 to 2**64 - 1")
    options.threads, options.seed = threads, seed
    return Handle("context", create("jempp_context_create", ctypes.byref(options)))


def _text(value: str, name: str) -> bytes:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{name} is {value!r}; it must be a string")
    return value.encode()


def create(name: str, *arguments: Any, path: str | None = None) -> int | None:
    """Calls a function that creates an object, and returns the object's number."""
    out = c_void_p()
    call(name, *arguments, ctypes.byref(out), path=path)
    return out.value
