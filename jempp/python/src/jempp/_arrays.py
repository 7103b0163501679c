"""Images and labels of the caller's, as the library takes them: float32 in [-1, 1], n x H x W x C, contiguous.

Nothing is guessed: where a shape can be read in two ways, or values are in no known range, the error says what was found
and which argument decides. An array that is already in the library's form is not copied.
"""
from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

Layout = Literal["auto", "NHWC", "NCHW", "NHW", "HWC", "CHW", "HW"]
Scale = Literal["-1..1", "0..1", "0..255", "unchecked"]
FloatArray = npt.NDArray[np.float32]

SLACK = np.float32(1e-6)
"""By how much values may leave their range, from rounding."""

# (u/255 - 1/2) / (1/2) in float32, as the library scales the bytes of image files.
_BYTES = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
_CPU = (1, 3)
"""DLPack's kinds of devices whose memory this process can read: CPU, and pinned memory of CUDA."""


class Images(NamedTuple):
    """Images in the library's form, and what is needed to give gradients the caller's shape."""

    values: FloatArray
    """n x H x W x C."""
    single: bool
    """Whether the caller passed one image without the axis n."""
    layout: str
    """The caller's layout."""

    def like_input(self, gradients: FloatArray) -> FloatArray:
        """n x H x W x C in the caller's layout."""
        if "C" not in self.layout:
            gradients = gradients[..., 0]
        elif self.layout.endswith("CHW"):
            gradients = gradients.transpose(0, 3, 1, 2)
        return gradients[0] if self.single else gradients


def to_numpy(x: Any, name: str) -> npt.NDArray[Any]:
    """An array of another library as NumPy's, without a copy where it can be."""
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__"):
        kind = int(x.__dlpack_device__()[0])
        if kind not in _CPU:
            raise ValueError(f"{name}: the array is on a device (DLPack kind {kind}); copy it to the CPU first, as by .cpu()")
        if getattr(x, "requires_grad", False):
            raise ValueError(f"{name}: the tensor requires a gradient; pass x.detach(), or use jempp.torch.as_module")
        try:
            return np.from_dlpack(x)
        except (BufferError, RuntimeError, TypeError) as e:
            raise ValueError(f"{name}: {e}; convert it to float32") from e
    return np.asarray(x)


def images(x: Any, shape: tuple[int, int, int], layout: Layout = "auto", scale: Scale = "-1..1", name: str = "images") -> Images:
    """Reads images of the given height, width and channels."""
    array = to_numpy(x, name)
    found = _layout(array.shape, shape, layout, name)
    values = _scaled(array, scale, name)
    if "C" not in found:
        values = values[..., np.newaxis]
    elif found.endswith("CHW"):
        values = np.moveaxis(values, -3, -1)
    single = not found.startswith("N")
    if single:
        values = values[np.newaxis]
    if not values.flags.carray:
        values = np.ascontiguousarray(values)
    return Images(values, single, found)


def _layout(found: tuple[int, ...], shape: tuple[int, int, int], layout: str, name: str) -> str:
    h, w, c = shape
    if layout == "auto" and len(found) == 4 and found[1:] == shape != (c, h, w):
        return "NHWC"  # The rest would say so, too, and takes longer.
    sizes = {"HWC": (h, w, c), "CHW": (c, h, w), **({"HW": (h, w)} if c == 1 else {})}
    fits = [k for k, size in sizes.items() if found == size]
    fits += [f"N{k}" for k, size in sizes.items() if len(found) == len(size) + 1 and found[1:] == size]
    if layout == "auto":
        if len(fits) == 1:
            return fits[0]
        if fits:
            ways = " or ".join(fits)
            raise ValueError(f"{name}: shape {found} can be read as {ways}; say which, as in layout={fits[0]!r}")
    elif layout in fits:
        return layout
    elif layout not in ("NHWC", "NCHW", "NHW", "HWC", "CHW", "HW"):
        raise ValueError(f"layout is {layout!r}; use auto, NHWC, NCHW, NHW, HWC, CHW or HW")
    how = "" if layout == "auto" else f" as {layout}"
    raise ValueError(f"{name}: shape {found} does not fit{how}; the model takes images of {h}x{w}x{c} (HxWxC), or {c}x{h}x{w}, with or without n before it")


def _scaled(array: npt.NDArray[Any], scale: str, name: str) -> FloatArray:
    if scale not in ("-1..1", "0..1", "0..255", "unchecked"):
        raise ValueError(f"scale is {scale!r}; use -1..1, 0..1, 0..255 or unchecked")
    if array.dtype == np.uint8:
        return cast(FloatArray, _BYTES[array])
    if array.dtype.kind != "f":
        extent = f", values {array.min()} to {array.max()}" if array.size and array.dtype.kind in "iub" else ""
        raise ValueError(f"{name}: type {array.dtype}{extent}; pass uint8 from 0 to 255, or floating-point values")
    values = array.astype(np.float32, copy=False)
    if values.size == 0:
        return values
    low, high = {"-1..1": (-1, 1), "0..1": (0, 1), "0..255": (0, 255)}.get(scale, (-np.inf, np.inf))
    # A NaN makes both of them NaN, and no comparison with it holds.
    least, most = values.min(), values.max()
    slack = SLACK * max(1, abs(high)) if scale != "unchecked" else np.float32(0)
    if not (low - slack <= least and most <= high + slack and abs(least) < np.inf and abs(most) < np.inf):
        _refuse(values, scale, least, most, name)
    if scale == "0..255":
        values = values / np.float32(255)
    if scale in ("0..1", "0..255"):
        values = (values - np.float32(0.5)) / np.float32(0.5)
    return values


def _refuse(values: FloatArray, scale: str, least: Any, most: Any, name: str) -> None:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        raise ValueError(f"{name}: the value at {at} is {values[at]}, and {len(wrong)} in all are not finite")
    others = {"0..1": (0, 1), "0..255": (0, 255), "-1..1": (-1, 1)}
    hints = [k for k, (low, high) in others.items() if k != scale and low <= least and most <= high]
    hint = f"pass scale={hints[0]!r} if that is their range" if hints else "rescale them"
    raise ValueError(f"{name}: values from {least:g} to {most:g}, outside {scale}; {hint} (scale='unchecked' allows any)")


def labels(y: Any, n: int, classes: int, name: str = "y") -> npt.NDArray[np.int32]:
    """The classes of n images: n whole numbers, or one for all."""
    array = to_numpy(y, name)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: type {array.dtype}; pass whole numbers from 0 to {classes - 1}")
    if array.ndim == 0:
        array = np.full(n, array)
    if array.shape != (n,):
        raise ValueError(f"{name}: shape {array.shape}; {n} labels are needed, or one for all")
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if len(wrong):
        raise ValueError(f"{name}: label {array[wrong[0]]} of image {wrong[0]} is not a class from 0 to {classes - 1}")
    return np.ascontiguousarray(array, dtype=np.int32)


def to_uint8(values: FloatArray) -> npt.NDArray[np.uint8]:
    """Images in [-1, 1] as bytes, for showing and saving."""
    bytes_ = np.clip(np.rint(values * np.float32(127.5) + np.float32(127.5)), 0, 255)
    return cast("npt.NDArray[np.uint8]", bytes_.astype(np.uint8))
