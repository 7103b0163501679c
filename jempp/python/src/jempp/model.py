"""Models: loaded, asked about images, sampled from, and saved."""
from __future__ import annotations

import ctypes
import math
import os
import time
from typing import Any, Callable, NamedTuple, Optional, cast

import numpy as np
import numpy.typing as npt

from . import _arrays, _interrupt, _library
from ._arrays import FloatArray, Images, Layout, Scale

CHUNK = 64
"""Images per call of the library; results do not depend on it, and Ctrl-C is looked for between two."""
LONG = 0.1
"""Calls that are expected to take more seconds than this can be interrupted."""


class Decisions(NamedTuple):
    """What a model decides about n images."""

    label: npt.NDArray[np.int32]
    """The most probable class."""
    probability: FloatArray
    """Its calibrated probability."""
    log_density: FloatArray
    """Unnormalised log p(x)."""
    ood_p_value: FloatArray
    """Estimated fraction of in-distribution images whose log p(x) is as low as this."""
    abstain: npt.NDArray[np.bool_]
    """Whether the model abstains: the image is out of distribution, or no single class is probable enough."""


class Evaluation(NamedTuple):
    """Accuracy and calibration on labelled images."""

    n: int
    """Number of images."""
    accuracy: float
    """Fraction classified correctly."""
    ece: float
    """Expected calibration error."""
    nll: float
    """Mean -log p(label), in nats."""
    brier: float
    """Brier score, from 0 to 2."""


_DECISION = np.dtype(
    [("struct_size", "u4"), ("label", "i4"), ("probability", "f4"), ("log_density", "f4"), ("ood_p_value", "f4"), ("abstain", "i4")]
)


class Model:
    """A trained joint energy-based model. Immutable: any number of threads may use it at once.

    Methods that take images accept arrays of any library that shares memory with NumPy, n x H x W x C or n x C x H x W, or
    one image without n, whose results then lack n, too: uint8 from 0 to 255, or floating-point values in the range that
    `scale` names. `layout` decides where a shape can be read in two ways. Images that fit neither raise ValueError.
    Results of an image are the same bits in any batch. Ctrl-C ends long calls and leaves the model usable.
    """

    def __init__(self, handle: _library.Handle):
        info = _library.ModelInfo(ctypes.sizeof(_library.ModelInfo))
        _library.call("jempp_model_get_info", handle.get(), ctypes.byref(info))
        self._handle = handle
        self._shape = (int(info.height), int(info.width), int(info.channels))
        self._classes, self._parameters = int(info.classes), int(info.parameters)
        self._pace: dict[str, float] = {}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of its images."""
        return self._shape

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._classes

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return self._parameters

    def __repr__(self) -> str:
        h, w, c = self._shape
        closed = ", closed" if self._handle.closed else ""
        return f"<jempp.Model of {h}x{w}x{c} images, {self._classes} classes, {self._parameters:,} parameters{closed}>"

    def __call__(self, x: Any, *, layout: Layout = "auto", scale: Scale = "-1..1") -> FloatArray:
        """The logits."""
        return self.logits(x, layout=layout, scale=scale)

    def logits(self, x: Any, *, layout: Layout = "auto", scale: Scale = "-1..1", progress: Optional[_interrupt.Progress] = None) -> FloatArray:
        """Logits f(x)[y], n x classes. `progress` is called with the images done and in all; False ends the call."""
        given = _arrays.images(x, self._shape, layout, scale)
        return self._infer("jempp_logits", given, self._classes, progress)

    def predict_proba(self, x: Any, *, layout: Layout = "auto", scale: Scale = "-1..1") -> FloatArray:
        """p(y|x), n x classes: the softmax of the logits."""
        logits = self.logits(x, layout=layout, scale=scale).astype(np.float64)
        e = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return cast(FloatArray, (e / e.sum(axis=-1, keepdims=True)).astype(np.float32))

    def predict(self, x: Any, *, layout: Layout = "auto", scale: Scale = "-1..1") -> npt.NDArray[np.intp]:
        """The most probable class of each image."""
        return cast("npt.NDArray[np.intp]", self.logits(x, layout=layout, scale=scale).argmax(axis=-1))

    def log_density(self, x: Any, *, layout: Layout = "auto", scale: Scale = "-1..1", progress: Optional[_interrupt.Progress] = None) -> FloatArray:
        """Unnormalised log p(x), n values. `progress` is that of `logits`."""
        given = _arrays.images(x, self._shape, layout, scale)
        return self._infer("jempp_log_density", given, 1, progress)[..., 0]

    def energy(self, x: Any, *, layout: Layout = "auto", scale: Scale = "-1..1") -> FloatArray:
        """The energy, -log p(x) up to a constant, n values."""
        return -self.log_density(x, layout=layout, scale=scale)

    def input_grad(self, x: Any, y: Any = None, *, layout: Layout = "auto", scale: Scale = "-1..1") -> FloatArray:
        """Gradient of log p(x), or with labels of log p(x, y), in the shape of x.

        It is with respect to the network's inputs in [-1, 1], whatever the range of x.
        """
        given = _arrays.images(x, self._shape, layout, scale)
        n = len(given.values)
        labels = None if y is None else _arrays.labels(y, n, self._classes)
        out = np.empty(given.values.shape, np.float32)
        handle = self._handle

        def chunk(a: int, b: int) -> None:
            chosen = None if labels is None else labels[a:b].ctypes.data
            part = given.values[a:b]
            _library.call("jempp_input_grad", handle.get(), part.ctypes.data, b - a, chosen, out[a:b].ctypes.data, part.size)

        self._in_chunks("input_grad", n, chunk, None)
        return given.like_input(out)

    def features(self, x: Any, *, layout: Layout = "auto", scale: Scale = "-1..1") -> FloatArray:
        """Features, n x `n_features`: the pooled output of the last block, which the logits are a linear function of."""
        given = _arrays.images(x, self._shape, layout, scale)
        return self._infer("jempp_features", given, self.n_features, None)

    @property
    def n_features(self) -> int:
        """Number of features."""
        count = ctypes.c_uint32()
        _library.call("jempp_feature_count", self._handle.get(), ctypes.byref(count))
        return count.value

    def logits_vjp(self, x: Any, upstream: Any, *, layout: Layout = "auto", scale: Scale = "-1..1") -> FloatArray:
        """Gradient, in the shape of x, of any function of the logits, given its gradient `upstream`, n x classes.

        It is with respect to the network's inputs in [-1, 1], whatever the range of x.
        """
        given = _arrays.images(x, self._shape, layout, scale)
        n, k = len(given.values), self._classes
        u = np.ascontiguousarray(_arrays.to_numpy(upstream, "upstream"), np.float32)
        if u.shape != (n, k) and not (given.single and u.shape == (k,)):
            raise ValueError(f"upstream: shape {u.shape}; the logits have {(n, k)}")
        u = u.reshape(n, k)
        out, handle = np.empty(given.values.shape, np.float32), self._handle

        def chunk(a: int, b: int) -> None:
            part, w, to = given.values[a:b], u[a:b], out[a:b]
            _library.call("jempp_logits_vjp", handle.get(), part.ctypes.data, b - a, w.ctypes.data, w.size, to.ctypes.data, to.size)

        self._in_chunks("logits_vjp", n, chunk, None)
        return given.like_input(out)

    def evaluate(
        self,
        x: Any,
        y: Any,
        *,
        bins: int = 20,
        layout: Layout = "auto",
        scale: Scale = "-1..1",
        progress: Optional[_interrupt.Progress] = None,
    ) -> Evaluation:
        """Accuracy, calibration error over `bins` bins, likelihood and Brier score on labelled images."""
        given, labels = self._labelled(x, y, layout, scale)
        if not 1 <= bins < 2**32:
            raise ValueError(f"bins is {bins}; it must be at least 1")
        out, handle = _library.EvaluationStruct(ctypes.sizeof(_library.EvaluationStruct)), self._handle

        def work(task: _interrupt.Task) -> None:
            report = _library.PROGRESS(lambda done, total, _user: task.report(done, total))
            arguments = given.values.ctypes.data, labels.ctypes.data, len(labels), bins, report, None
            _library.call("jempp_evaluate", handle.get(), *arguments, ctypes.byref(out))

        _interrupt.run(work, progress)
        return Evaluation(len(labels), out.accuracy, out.ece, out.nll, out.brier)

    def fit_thresholds(
        self,
        x: Any,
        y: Any,
        *,
        alpha: float = 0.05,
        ood_alpha: float = 0.05,
        layout: Layout = "auto",
        scale: Scale = "-1..1",
        progress: Optional[_interrupt.Progress] = None,
    ) -> "Model":
        """A model of the same weights that can `decide`, with thresholds fitted to labelled images.

        The images must be in random order, not trained on, and from the distribution that the model will meet; at least
        2 / alpha of them. `alpha` is the error rate of the prediction sets, `ood_alpha` the fraction of in-distribution
        images to reject.
        """
        given, labels = self._labelled(x, y, layout, scale)
        handle = self._handle
        for name, value in (("alpha", alpha), ("ood_alpha", ood_alpha)):
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value}; it must be between 0 and 1")

        def work(task: _interrupt.Task) -> Optional[int]:
            report = _library.PROGRESS(lambda done, total, _user: task.report(done, total))
            arguments = given.values.ctypes.data, labels.ctypes.data, len(labels), alpha, ood_alpha, report, None
            return _library.create("jempp_fit_thresholds", handle.get(), *arguments)

        return Model(_library.Handle("model", _interrupt.run(work, progress)))

    def _labelled(self, x: Any, y: Any, layout: Layout, scale: Scale) -> tuple[Images, npt.NDArray[np.int32]]:
        given = _arrays.images(x, self._shape, layout, scale)
        return given, _arrays.labels(y, len(given.values), self._classes)

    def decide(self, x: Any, *, layout: Layout = "auto", scale: Scale = "-1..1") -> Decisions:
        """Label, calibrated probability, out-of-distribution p-value, and whether the model abstains.

        Raises FormatError if the model has no thresholds: `fit_thresholds` makes a model that has.
        """
        given = _arrays.images(x, self._shape, layout, scale)
        out = np.zeros(len(given.values), _DECISION)
        out["struct_size"] = _DECISION.itemsize
        handle = self._handle

        def chunk(a: int, b: int) -> None:
            part = given.values[a:b]
            _library.call("jempp_decide", handle.get(), part.ctypes.data, b - a, out[a:b].ctypes.data, b - a)

        self._in_chunks("decide", len(out), chunk, None)
        abstain = out["abstain"] != 0
        fields = [out[name] for name in ("label", "probability", "log_density", "ood_p_value")] + [abstain]
        return Decisions(*((f[0] if given.single else f.copy()) for f in fields))

    def sample(
        self,
        n: int,
        y: Any = None,
        *,
        steps: Optional[int] = None,
        start: Any = None,
        step_size: Optional[float] = None,
        clip: Optional[float] = None,
        noise: Optional[float] = None,
        seed: int = 0,
        as_uint8: bool = False,
        progress: Optional[_interrupt.Progress] = None,
    ) -> npt.NDArray[Any]:
        """n images from p(x), or of the classes y from p(x|y), n x H x W x C in [-1, 1], or as uint8.

        SGLD as in the model's training, unless `steps`, `step_size`, `clip` or `noise` say otherwise, from the start
        samples that the model carries, or from the images `start`. The same seed gives the same images. `progress` is
        called with the steps done and in all; False ends the call.
        """
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
            raise ValueError(f"n is {n!r}; it must be a whole number, not negative")
        if steps is not None and not 1 <= steps < 2**32:
            raise ValueError(f"steps is {steps}; it must be at least 1")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}; it must be from 0 to 2**64 - 1")
        options = _library.SampleOptions(ctypes.sizeof(_library.SampleOptions), steps=steps or 0, seed=seed)
        for name, value in (("step_size", step_size), ("clip", clip), ("noise", noise)):
            if value is not None and not 0 <= value < np.inf:
                raise ValueError(f"{name} is {value}; it must be finite and not negative")
            setattr(options, name, -1.0 if value is None else value)
        labels = None if y is None else _arrays.labels(y, int(n), self._classes)
        if labels is not None:
            options.labels = labels.ctypes.data
        first = None if start is None else _arrays.images(start, self._shape, name="start").values
        if first is not None:
            if len(first) != n:
                raise ValueError(f"start: {len(first)} images for {n} chains")
            options.start, options.start_len = first.ctypes.data, first.size
        out, handle = np.empty((int(n), *self._shape), np.float32), self._handle

        def work(task: _interrupt.Task, keep: Any = (labels, first)) -> None:
            # The callback refers to the task, and the library to the arrays, until the call returns.
            report = _library.PROGRESS(lambda done, total, _user: task.report(done, total))
            options.progress = report
            _library.call("jempp_sample", handle.get(), ctypes.byref(options), len(out), out.ctypes.data, out.size)

        _interrupt.run(work, progress)
        return _arrays.to_uint8(out) if as_uint8 else out

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the model as a safetensors file, which replaces an older one at once."""
        raw, shown = _library.encoded(path)
        _library.call("jempp_model_save", self._handle.get(), raw, path=os.path.dirname(shown) or ".")

    def close(self) -> None:
        """Frees the model now rather than when it is garbage."""
        self._handle.close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a jempp.Model cannot be pickled or copied; save it, and load the file in the other process")

    def _infer(self, name: str, given: Images, each: int, progress: Optional[_interrupt.Progress]) -> FloatArray:
        values, handle = given.values, self._handle
        out = np.empty((len(values), each), np.float32)

        source, target, size = values.ctypes.data, out.ctypes.data, 4 * math.prod(self._shape)

        def chunk(a: int, b: int, keep: Any = (values, out)) -> None:
            # Addresses by arithmetic: a slice and its address take as long as all the rest.
            _library.call(name, handle.get(), source + a * size, b - a, target + 4 * a * each, (b - a) * each)

        self._in_chunks(name, len(values), chunk, progress)
        return cast(FloatArray, out[0]) if given.single else out

    def _in_chunks(self, name: str, n: int, chunk: Callable[[int, int], None], progress: Optional[_interrupt.Progress]) -> None:
        """Calls `chunk` for all of n images, so that Ctrl-C ends it if it takes long."""
        start = time.perf_counter()
        # A first call compiles programs and shows the pace; most are of one batch.
        expected = n * self._pace.get(name, LONG if n > 8 else 0.0)
        if progress is None and expected < LONG:
            chunk(0, n)
        else:

            def work(task: _interrupt.Task) -> None:
                for a in range(0, n, CHUNK):
                    task.check(a, n)
                    chunk(a, min(a + CHUNK, n))
                task.check(n, n)

            _interrupt.run(work, progress)
        if n:
            self._pace[name] = (time.perf_counter() - start) / n


def _open(name: str, device: str, threads: int, precision: str, *arguments: Any, path: Optional[str] = None) -> Model:
    context = _library.context(device, threads, precision)
    try:
        return Model(_library.Handle("model", _library.create(name, context.get(), *arguments, path=path)))
    finally:
        context.close()


def load(path: str | os.PathLike[str], *, device: str = "auto", threads: int = 0, precision: str = "f32") -> Model:
    """Loads a model: a run folder, a checkpoint folder, a safetensors file, or a published PyTorch checkpoint.

    `device` is "auto" (the CPU), "cpu" or "cuda:N"; `threads` 0 means one per core; `precision` is "f32", "bf16", or on a
    GPU "tf32". Raises FileNotFoundError, FormatError if the file is damaged or not a model, and DeviceError.
    """
    raw, shown = _library.encoded(path)
    return _open("jempp_model_load", device, threads, precision, raw, path=shown)


def loads(data: bytes, *, device: str = "auto", threads: int = 0, precision: str = "f32") -> Model:
    """Loads a model from the bytes of its file; the rest is as in `load`."""
    data = bytes(data)
    return _open("jempp_model_load_memory", device, threads, precision, data, len(data))
