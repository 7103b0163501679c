#!/usr/bin/env python3
"""Times one JEM++ training iteration in eager PyTorch on the CPU. See README.md for the venv.

    python jempp_torch.py --depth 16 --width 2 --image 32 32 3 --batch 64 --outer 10 --threads 2 --json

One iteration is the published one (`alltrain1`): f(x_data) in train mode; chains from the replay buffer, 5 %
of them restarted; M outer steps with batch norm in train mode, each with N inner steps (--literal) or one
step of N·α (--collapsed: the same arithmetic, since the first layer is linear); write-back; f(x_q); cross-entropy
of the labelled batch; one backward pass; SGD with momentum and weight decay. Loading and augmentation are not
timed: batches, and samples for the restarts, are ready in memory.

Prints one JSON line to stdout; without --json, a human-readable line comes first.
"""
import argparse
import contextlib
import json
import platform
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in, momentum=0.9)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(c_out, momentum=0.9)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, stride=stride, padding=1)
        plain = stride == 1 and c_in == c_out
        self.shortcut = nn.Sequential() if plain else nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride))

    def forward(self, x):
        h = self.conv1(F.leaky_relu(self.bn1(x), 0.2))
        return self.conv2(F.leaky_relu(self.bn2(h), 0.2)) + self.shortcut(x)


class WideResNet(nn.Module):
    def __init__(self, depth, width, channels, classes):
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise SystemExit("--depth must be 6n + 4")
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
        blocks, c_in = [], 16
        for s, c_out in enumerate(widths[1:]):
            for i in range((depth - 4) // 6):
                blocks.append(Block(c_in, c_out, 2 if s and not i else 1))
                c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.bn1 = nn.BatchNorm2d(c_in, momentum=0.9)
        self.class_output = nn.Linear(c_in, classes)

    def after_conv1(self, h):
        h = F.leaky_relu(self.bn1(self.blocks(h)), 0.2)
        return self.class_output(h.mean((2, 3)))

    def forward(self, x):
        return self.after_conv1(self.conv1(x))


def log_density(logits):
    return logits.float().logsumexp(1)


class Trainer:
    def __init__(self, a):
        self.a, self.alpha, self.eps = a, 0.2, 1.0
        h, w, c = a.image
        self.device = getattr(a, "device", "cpu")
        self.format = torch.channels_last if a.channels_last else torch.contiguous_format
        self.net = WideResNet(a.depth, a.width, c, a.classes).to(self.device, memory_format=self.format).train()
        self.optimiser = torch.optim.SGD(self.net.parameters(), 0.01, 0.9, weight_decay=4e-4)
        image = lambda n: (torch.rand(n, c, h, w) * 2 - 1).to(self.device, memory_format=self.format)
        labels = lambda: torch.randint(a.classes, (a.batch,), device=self.device)
        self.batches = [(image(a.batch), image(a.batch), labels()) for _ in range(4)]
        self.buffer, self.bank = image(a.buffer), image(1000)

    def autocast(self):
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16) if self.a.dtype == "bf16" else contextlib.nullcontext()

    def gradient(self, x):
        """Literal: ∂f/∂(conv1 out). Collapsed: ∂f/∂x. No weight gradient is computed in either."""
        with self.autocast():
            if self.a.literal:
                with torch.no_grad():
                    at = self.net.conv1(x)
                at.requires_grad_(True)
                f = log_density(self.net.after_conv1(at)).sum()
            else:
                at = x.detach().requires_grad_(True)
                f = log_density(self.net(at)).sum()
        return torch.autograd.grad(f, at)[0]

    def outer_step(self, x):
        g = self.gradient(x)
        # conv1ᵀ p as autograd computes it: conv_transpose2d, mathematically the same, is several times slower on the
        # CPU.
        with torch.no_grad():
            if not self.a.literal:
                return (x + (self.a.inner * self.alpha) * g.clamp_(-self.eps, self.eps)).clamp_(-1, 1)
            weight = self.net.conv1.weight.to(g.dtype)  # bf16 for the products, not for x
            for _ in range(self.a.inner):
                step = torch.nn.grad.conv2d_input(x.shape, weight, g, padding=1).float()
                x = (x + self.alpha * step.clamp(-self.eps, self.eps)).clamp_(-1, 1)
            return x

    def begin(self):
        """Where chains start, and their places in the buffer."""
        a = self.a
        index = torch.randint(a.buffer, (a.batch,), device=self.device)
        restart = (torch.rand(a.batch, device=self.device) < 0.05)[:, None, None, None]
        fresh = self.bank[torch.randint(len(self.bank), (a.batch,), device=self.device)]
        return torch.where(restart, fresh, self.buffer[index]).to(memory_format=self.format), index

    def sample(self):
        x, index = self.begin()
        for _ in range(self.a.outer):
            x = self.outer_step(x)
        self.buffer[index] = x
        return x

    def iteration(self, i):
        x_data, x_labelled, labels = self.batches[i % len(self.batches)]
        with self.autocast():
            f_p = log_density(self.net(x_data)).mean()
        x_q = self.sample()
        with self.autocast():
            f_q = log_density(self.net(x_q)).mean()
            logits = self.net(x_labelled)
        loss = (f_q - f_p) + F.cross_entropy(logits.float(), labels)
        if abs(loss.item()) > 1e8:
            raise SystemExit("diverged")
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--depth", type=int, default=28)
    p.add_argument("--width", type=int, default=10)
    p.add_argument("--image", type=int, nargs=3, default=[32, 32, 3], metavar=("H", "W", "C"))
    p.add_argument("--classes", type=int, default=10)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--outer", type=int, default=10, help="M")
    p.add_argument("--inner", type=int, default=5, help="N")
    p.add_argument("--buffer", type=int, default=1000, help="images in the replay buffer")
    p.add_argument("--threads", type=int, default=0, help="0: PyTorch's choice")
    p.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16: autocast, float32 weights")
    p.add_argument("--channels-last", action="store_true")
    form = p.add_mutually_exclusive_group()
    form.add_argument("--collapsed", dest="literal", action="store_false", help="one step of N·α (default)")
    form.add_argument("--literal", dest="literal", action="store_true", help="N steps, each conv1ᵀ p anew (as the backward pass of a\n                      convolution: conv_transpose2d itself is several times slower)")
    p.set_defaults(literal=False)
    p.add_argument("--warmup", type=int, default=1)
    p.add_argument("--iters", type=int, default=10)
    p.add_argument("--json", action="store_true", help="print the JSON line only")
    return p.parse_args()


def main():
    a = arguments()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    trainer, times = Trainer(a), []
    for i in range(a.warmup + a.iters):
        start = time.perf_counter()
        trainer.iteration(i)
        if i >= a.warmup:
            times.append(time.perf_counter() - start)
    out = {k: getattr(a, k) for k in ("depth", "width", "image", "classes", "batch", "outer", "inner", "dtype", "channels_last", "iters")}
    out |= {"form": "literal" if a.literal else "collapsed", "threads": torch.get_num_threads(), "median_s": statistics.median(times)}
    out |= {"min_s": min(times), "torch": torch.__version__, "python": platform.python_version()}
    if not a.json:
        size = "x".join(map(str, a.image))
        print(f"WRN-{a.depth}-{a.width} {size} batch {a.batch} M={a.outer} {out['form']}: median {out['median_s']:.4f} s, min {out['min_s']:.4f} s")
    print(json.dumps(out))


if __name__ == "__main__":
    main()
