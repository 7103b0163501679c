"""The compute devices of this machine."""
from __future__ import annotations

import ctypes
from dataclasses import dataclass

from . import _library


@dataclass(frozen=True)
class Device:
    """A compute device."""

    id: str
    """What to pass as `device`: "cpu" or "cuda:N"."""
    name: str
    memory_total: int
    """Bytes; 0: unknown."""
    memory_free: int
    """Bytes; 0: unknown, and always for a GPU, which is not opened."""
    compute_capability: int
    """Of a GPU, 90 for 9.0; 0 for the CPU."""


def devices() -> list[Device]:
    """The CPU, and the GPUs that the driver reports."""
    count = ctypes.c_uint32()
    _library.call("jempp_device_count", ctypes.byref(count))
    out = []
    for index in range(count.value):
        info = _library.DeviceInfo(ctypes.sizeof(_library.DeviceInfo))
        _library.call("jempp_device_get_info", index, ctypes.byref(info))
        name = f"cuda:{info.ordinal}" if info.is_cuda else "cpu"
        text = info.name.decode("utf-8", "replace")
        out.append(Device(name, text, info.memory_total, info.memory_free, info.compute_capability))
    return out
