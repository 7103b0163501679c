#!/usr/bin/env python3
"""Times one JEM++ training iteration in PyTorch on a GPU, eager or compiled. See README.md.

    python jempp_torch_gpu.py --network WRN-28-10 --mode eager --jsonl results.jsonl
    python jempp_torch_gpu.py --device cpu --quick --mode eager    # a self-test on any machine: a tiny network

One process times one network in one mode, so that whatever ends it costs no other result. The iteration is that of
jempp_torch.py with the collapsed inner loop, channels-last, with float32 weights: in bf16 (autocast), TF32 or float32.
Modes:
  eager    as written
  compile  torch.compile(mode="reduce-overhead"), which uses CUDA graphs by itself
  graph    eager kernels captured by hand: one graph per outer step, one for the rest
The compiled modes run the three passes of the loss one after another after the chains (the published order has the pass
over the data before them), so that they form one graph: the work is the same. While chains move, gradients of the
weights are switched off, so that compiled code computes none.

To --jsonl it appends what gpu-check does: a line with the name before the work begins, one with the result, and one that
says that nothing is left to do. Each is on the disk before the next begins.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from jempp_torch import Trainer, log_density  # noqa: E402

# depth, width
NETWORKS = {"WRN-28-10": (28, 10), "WRN-16-4": (16, 4), "WRN-28-2": (28, 2), "tiny": (10, 1)}


class Eager(Trainer):
    """Published order, no compilation."""

    def __init__(self, a):
        super().__init__(a)
        fused = torch.device(a.device).type == "cuda"
        self.optimiser = torch.optim.SGD(self.net.parameters(), 0.01, 0.9, weight_decay=4e-4, fused=fused)

    def loss(self, x_data, x_q, x_labelled, labels):
        with self.autocast():
            f_p, f_q = log_density(self.net(x_data)).mean(), log_density(self.net(x_q)).mean()
            logits = self.net(x_labelled)
        return (f_q - f_p) + F.cross_entropy(logits.float(), labels)

    def free_weights(self, need):
        for p in self.net.parameters():
            p.requires_grad_(need)


class Compiled(Eager):
    """torch.compile with CUDA graphs of its own."""

    def __init__(self, a):
        super().__init__(a)
        mode = "reduce-overhead" if torch.device(a.device).type == "cuda" else "default"
        self.compiled_energy = torch.compile(self.energy, mode=mode, dynamic=False)
        self.compiled_loss = torch.compile(self.loss, mode=mode, dynamic=False)

    def energy(self, x):
        with self.autocast():
            return log_density(self.net(x)).sum()

    def gradient(self, x):
        torch.compiler.cudagraph_mark_step_begin()
        at = x.detach().clone().requires_grad_(True)
        return torch.autograd.grad(self.compiled_energy(at), at)[0].clone()

    def iteration(self, i):
        x_data, x_labelled, labels = self.batches[i % len(self.batches)]
        self.free_weights(False)
        x_q = self.sample()
        self.free_weights(True)
        torch.compiler.cudagraph_mark_step_begin()
        loss = self.compiled_loss(x_data, x_q, x_labelled, labels)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        if abs(loss.item()) > 1e8:
            raise SystemExit("diverged")


class Captured(Eager):
    """Eager kernels in two CUDA graphs: an outer step, and loss, gradient and update."""

    def __init__(self, a):
        super().__init__(a)
        self.x = torch.zeros_like(self.batches[0][0])
        self.given = [torch.zeros_like(t) for t in self.batches[0]]
        self.step_graph, self.train_graph = self.capture(self.move), self.capture(self.train)

    def move(self):
        self.free_weights(False)
        self.x.copy_(self.outer_step(self.x))
        self.free_weights(True)

    def train(self):
        x_data, x_labelled, labels = self.given
        loss = self.loss(x_data, self.x, x_labelled, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.last = loss.detach()

    def capture(self, work):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph

    def iteration(self, i):
        for to, batch in zip(self.given, self.batches[i % len(self.batches)]):
            to.copy_(batch)
        x, index = self.begin()
        self.x.copy_(x)
        for _ in range(self.a.outer):
            self.step_graph.replay()
        self.buffer[index] = self.x
        self.train_graph.replay()
        if abs(self.last.item()) > 1e8:
            raise SystemExit("diverged")


MODES = {"eager": Eager, "compile": Compiled, "graph": Captured}


def free_bytes(a):
    return torch.cuda.mem_get_info()[0] if torch.device(a.device).type == "cuda" else None


def measure(a):
    cuda = torch.device(a.device).type == "cuda"
    before = free_bytes(a)
    torch.manual_seed(0)
    trainer, times = MODES[a.mode](a), []
    for i in range(a.warmup + a.iters):
        if cuda and i == a.warmup:
            # Without what was used to choose algorithms and to compile.
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        trainer.iteration(i)  # ends in .item(), which synchronises
        if cuda:
            torch.cuda.synchronize()
        if i >= a.warmup:
            times.append(time.perf_counter() - start)
    row = {"median_s": statistics.median(times), "min_s": min(times), "iterations": len(times)}
    if cuda:
        # Graphs have pools of their own, whose tensors do not count as allocated between replays, so the allocator's
        # reserve is the figure for them.
        row |= {"allocated_bytes": torch.cuda.max_memory_allocated(), "reserved_bytes": torch.cuda.max_memory_reserved(),
                "device_bytes": before - free_bytes(a)}
    return row


class Results:
    """The file that results are appended to."""

    def __init__(self, path, job):
        self.path, self.job = path, job

    def write(self, event, **more):
        line = json.dumps({"event": event, "job": self.job, "at": round(time.time(), 3)} | more)
        if not self.path:
            print(line, flush=True)
            return
        with open(self.path, "ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="cuda")
    p.add_argument("--network", choices=NETWORKS, default="WRN-28-10")
    p.add_argument("--mode", choices=MODES, default="eager")
    p.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="bf16", help="bf16: autocast, float32 weights")
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--outer", type=int, default=10, help="M")
    p.add_argument("--warmup", type=int, default=5)
    p.add_argument("--iters", type=int, default=10)
    p.add_argument("--quick", action="store_true", help="the tiny network on 8×8 images: a self-test")
    p.add_argument("--jsonl", metavar="FILE", help="append the results there; without it, to standard output")
    p.add_argument("--job", help="the name of this work in the results")
    a = p.parse_args()
    a.image, a.classes, a.buffer, a.inner, a.literal, a.channels_last = [32, 32, 3], 10, 1000, 5, False, True
    if a.quick:
        a.network, a.image, a.batch, a.outer, a.warmup, a.iters = "tiny", [8, 8, 1], 4, 2, 1, 2
    a.depth, a.width = NETWORKS[a.network]
    a.dtype = "bf16" if a.precision == "bf16" else "f32"
    a.job = a.job or f"torch {a.network} {a.mode} {a.precision}"
    return a


def work(a):
    cuda = torch.device(a.device).type == "cuda"
    if cuda and not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no GPU; --device cpu --quick tests the script")
    if a.mode == "graph" and not cuda:
        raise RuntimeError("only a GPU has graphs")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.precision == "tf32"
    name = torch.cuda.get_device_name() if cuda else platform.processor() or "CPU"
    row = {"network": a.network, "depth": a.depth, "width": a.width, "batch": a.batch, "outer": a.outer,
           "inner": a.inner, "precision": a.precision, "mode": a.mode, "torch": torch.__version__, "device": name,
           "cudnn": torch.backends.cudnn.version()}
    return row | measure(a)


def main():
    a = arguments()
    results, start = Results(a.jsonl, a.job), time.perf_counter()
    about = {"group": "PyTorch", "name": f"{a.network} {a.mode} {a.precision}"}
    results.write("started", **about)
    try:
        row = work(a)
    except BaseException as error:  # whatever it is, the file says so
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        results.write("check", **about, status="failed", detail=text, data=None, ms=1e3 * (time.perf_counter() - start))
        raise
    text = f"median {row['median_s'] * 1e3:.2f} ms, PyTorch {row['torch']}"
    if "allocated_bytes" in row:
        text += f", {row['allocated_bytes'] / 2**30:.2f} GiB allocated, {row['reserved_bytes'] / 2**30:.2f} reserved"
    results.write("check", **about, status="ok", detail=text, data=row, ms=1e3 * (time.perf_counter() - start))
    results.write("finished")
    print(f"  {about['name']:<50} ok  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
