"""Training driven by the host program, step by step, on its own images."""
from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np

from . import _arrays, _interrupt, _library, _toml
from ._arrays import FloatArray, Layout, Scale
from .model import LONG, Model


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of a training step."""

    step: int
    """Number of steps done, including this one."""
    loss: float
    """Total loss."""
    ce: float
    """Mean cross-entropy of the labelled images, in nats."""
    log_density_data: float
    """Mean unnormalised log p(x) of the data; NaN if log p(x) is not trained."""
    log_density_chain: float
    """Mean unnormalised log p(x) of the chains; NaN if log p(x) is not trained."""
    accuracy: float
    """Fraction of the labelled images that were classified correctly."""
    lr: float
    """Learning rate of the step."""

    @property
    def gap(self) -> float:
        """Mean log p(x) of the data minus that of the chains."""
        return self.log_density_data - self.log_density_chain


class Trainer:
    """A model being trained. One thread at a time may use it; others get BusyError.

    `config` is a dict, nested or with dotted keys, a TOML document, or the path of one; `jempp-cli train --print-config`
    shows all keys. Keys that it leaves out have the values of its preset, "jempp" unless it names another. Unknown keys
    raise ValueError with a suggestion. Images that the trainer is given are used as they are, without augmentation.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        threads: int = 0,
        precision: str = "f32",
        seed: int = 0,
    ):
        document = _toml.text(config).encode()
        if b"\0" in document:
            raise ValueError("the configuration holds a NUL byte")
        self._open("jempp_trainer_create", document, device, threads, precision, seed)

    @classmethod
    def resume(cls, path: str | os.PathLike[str], *, device: str = "auto", threads: int = 0, precision: str = "f32") -> "Trainer":
        """Resumes from the last checkpoint in a folder that `save`, `train` or jempp-cli wrote, bit for bit."""
        raw, shown = _library.encoded(path)
        made = cls.__new__(cls)
        made._open("jempp_trainer_resume", raw, device, threads, precision, 0, path=shown)
        return made

    def _open(self, name: str, source: bytes, device: str, threads: int, precision: str, seed: int, path: Optional[str] = None) -> None:
        context = _library.context(device, threads, precision, seed)
        try:
            self._handle = _library.Handle("trainer", _library.create(name, context.get(), source, path=path))
        finally:
            context.close()
        self._model_shape: Optional[tuple[tuple[int, int, int], int]] = None
        self._pace: dict[str, float] = {}
        self._unfinished: Optional[threading.Thread] = None

    def _shape(self) -> tuple[tuple[int, int, int], int]:
        """Image shape and number of classes."""
        if self._model_shape is None:
            with self.model() as model:
                self._model_shape = model.image_shape, model.classes
        return self._model_shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        return self._shape()[0]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._shape()[1]

    def load_model(self, model: Model) -> None:
        """Starts from the weights of a model of the same architecture; a head of another number of classes is kept."""
        self._call("load_model", lambda: _library.call("jempp_trainer_load_model", self._handle.get(), model._handle.get()))

    def set_init_images(self, x: Any, y: Any, *, layout: Layout = "auto", scale: Scale = "-1..1") -> None:
        """Gives a trainer without a data set the labelled images that its chains restart from, some hundred per class."""
        shape, classes = self._shape()
        values = _arrays.images(x, shape, layout, scale).values
        labels = _arrays.labels(y, len(values), classes)
        arguments = values.ctypes.data, labels.ctypes.data, len(values)
        self._call(
            "set_init_images",
            lambda: _library.call("jempp_trainer_set_init_images", self._handle.get(), *arguments),
            keep=(values, labels),
        )

    def step(
        self,
        x_data: Any,
        x_labelled: Any,
        y: Any,
        *,
        chain_start: Any = None,
        return_chains: bool = False,
        layout: Layout = "auto",
        scale: Scale = "-1..1",
    ) -> StepMetrics | tuple[StepMetrics, FloatArray]:
        """Runs one training step: SGLD on the chains, the loss, the update of the weights.

        `x_data` are train.batch_size images for log p(x), or None if it is not trained; `x_labelled` and `y` the labelled
        images, train.labelled_batch_size of them, or train.batch_size if that is 0. `chain_start` are images to start the
        chains from instead of the replay buffer; with `return_chains` the chains' final images are returned, too, n x H x
        W x C. A step that Ctrl-C interrupts may end in the background; the next call waits for it.
        """
        shape, classes = self._shape()
        none = np.empty((0, *shape), np.float32)
        data, labelled, start = (
            none if x is None else _arrays.images(x, shape, layout, scale, name).values
            for x, name in ((x_data, "x_data"), (x_labelled, "x_labelled"), (chain_start, "chain_start"))
        )
        labels = _arrays.labels(() if y is None else y, len(labelled), classes) if len(labelled) else np.empty(0, np.int32)
        chains = len(start) if chain_start is not None else len(data) if return_chains else 0
        end = np.empty((chains if return_chains else 0, *shape), np.float32)
        metrics = _library.StepMetricsStruct(ctypes.sizeof(_library.StepMetricsStruct))

        def work() -> None:
            _library.call(
                "jempp_trainer_step",
                self._handle.get(),
                data.ctypes.data if len(data) else None,
                len(data),
                labelled.ctypes.data if len(labelled) else None,
                labels.ctypes.data if len(labels) else None,
                len(labelled),
                start.ctypes.data if chain_start is not None else None,
                end.ctypes.data if return_chains else None,
                chains,
                ctypes.byref(metrics),
            )

        self._call("step", work)
        fields = ("step", "loss", "ce", "log_density_data", "log_density_chain", "accuracy", "lr")
        done = StepMetrics(*(getattr(metrics, f) for f in fields))
        return (done, end) if return_chains else done

    def model(self) -> Model:
        """The current model: a snapshot that later steps do not change."""
        made: list[Optional[int]] = []
        self._call("model", lambda: made.append(_library.create("jempp_trainer_model", self._handle.get())))
        return Model(_library.Handle("model", made[0]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves a checkpoint into a folder: the model, and what `resume` needs."""
        raw, _ = _library.encoded(path)
        self._call("save", lambda: _library.call("jempp_trainer_save", self._handle.get(), raw))

    def close(self) -> None:
        """Frees the trainer now rather than when it is garbage."""
        self._handle.close()

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<jempp.Trainer, closed>" if self._handle.closed else "<jempp.Trainer>"

    def __reduce__(self) -> Any:
        raise TypeError("a jempp.Trainer cannot be pickled or copied; save it, and resume from the folder")

    def _call(self, name: str, work: Callable[[], None], keep: Any = None) -> None:
        """Calls `work`, so that Ctrl-C is heard if it takes long. `keep` is what must live until it has ended."""
        self._handle.get()
        if self._unfinished is not None:
            self._unfinished.join()
            self._unfinished = None
        start = time.perf_counter()
        if self._pace.get(name, LONG) < LONG:
            work()
        else:

            def long(_: _interrupt.Task, keep: Any = keep) -> None:
                work()

            try:
                _interrupt.run(long)
            except BaseException as e:
                self._unfinished = getattr(e, "thread", None)
                raise
        self._pace[name] = time.perf_counter() - start
