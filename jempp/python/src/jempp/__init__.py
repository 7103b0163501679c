"""Joint energy-based models (JEM++): train, sample, classify, and detect out-of-distribution images.

    import jempp
    run = jempp.train()                       # the built-in digits, half a minute
    model = run.model                         # or jempp.load("runs/train-001")
    model.predict(images), model.log_density(images)

Images are arrays of any library that NumPy can read: uint8 from 0 to 255, or floating-point in [-1, 1]; n x H x W x C or
n x C x H x W. `jempp.torch` makes a model a PyTorch module, `jempp.sklearn` a classifier of scikit-learn; both are imported
only when asked for.
"""
from __future__ import annotations

from .cli import train
from ._devices import Device, devices
from .errors import BusyError, Cancelled, DeviceError, Diverged, FormatError, InternalError, JemppError
from .model import Decisions, Evaluation, Model, load, loads
from .run import Run
from .trainer import StepMetrics, Trainer

__version__ = "0.1.0"

__all__ = [
    "BusyError",
    "Cancelled",
    "Decisions",
    "Device",
    "DeviceError",
    "Diverged",
    "Evaluation",
    "FormatError",
    "InternalError",
    "JemppError",
    "Model",
    "Run",
    "StepMetrics",
    "Trainer",
    "devices",
    "load",
    "loads",
    "train",
]
