"""A jempp model as a PyTorch module, so that attacks, detectors and metrics written for PyTorch run on it unchanged.

The forward pass and the gradient with respect to the images are jempp's, on its own device; images and results are on the
CPU. There are no parameters, and no second derivatives.
"""
from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from .model import Model

Output = Literal["logits", "log_density"]


class _Logits(torch.autograd.Function):
    """Logits, and the product of their Jacobian with the gradient that arrives."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, model: Model) -> torch.Tensor:
        images = x.detach().numpy()
        ctx.model, ctx.images = model, images
        return torch.from_numpy(model.logits(images, layout="NCHW", scale="unchecked"))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        g = ctx.model.logits_vjp(ctx.images, upstream.numpy(), layout="NCHW", scale="unchecked")
        return torch.from_numpy(np.ascontiguousarray(g)), None


class _LogDensity(torch.autograd.Function):
    """Log p(x), and its gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, model: Model) -> torch.Tensor:
        images = x.detach().numpy()
        ctx.model, ctx.images = model, images
        return torch.from_numpy(model.log_density(images, layout="NCHW", scale="unchecked"))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        g = ctx.model.input_grad(ctx.images, layout="NCHW", scale="unchecked")
        return torch.from_numpy(np.ascontiguousarray(g)) * upstream.reshape(-1, 1, 1, 1), None


class JemppModule(nn.Module):
    """A model's logits or log p(x) as a module; see `as_module`."""

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, model: Model, bounds: tuple[float, float], output: Output):
        super().__init__()
        if output not in ("logits", "log_density"):
            raise ValueError(f"output is {output!r}; use logits or log_density")
        if not bounds[0] < bounds[1]:
            raise ValueError(f"bounds are {bounds}; the first must be below the second")
        self.model, self.bounds, self.output = model, (float(bounds[0]), float(bounds[1])), output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """n x classes logits of images n x C x H x W within the bounds, or their n values of log p(x)."""
        if x.device.type != "cpu":
            raise ValueError(f"the images are on {x.device}; jempp takes them from the CPU: pass x.cpu()")
        low, high = self.bounds
        # As jempp scales bytes: first to [0, 1], then to [-1, 1].
        inner = x.float() if (low, high) == (-1.0, 1.0) else ((x.float() - low) / (high - low) - 0.5) / 0.5
        function = _Logits if self.output == "logits" else _LogDensity
        return function.apply(inner, self.model)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """What repr shows in the parentheses."""
        return f"{self.model!r}, bounds={self.bounds}, output={self.output!r}"


def as_module(model: Model, *, bounds: tuple[float, float] = (-1.0, 1.0), output: Output = "logits") -> JemppModule:
    """A module whose forward pass and input gradient are the model's, in evaluation mode.

    It takes float images n x C x H x W with values within `bounds`, (0, 1) for most attacks and (-1, 1) for the network's
    own inputs, and returns the logits, or with output="log_density" log p(x), n values. Values outside the bounds are
    passed on as they are, so that attacks may overstep and project.
    """
    return JemppModule(model, bounds, output).eval()
