#!/usr/bin/env python3
"""Times one JEM++ training iteration in PyTorch on a GPU, eager and compiled. See README.md.

    python jempp_torch_gpu.py --json torch.json            # WRN-28-10, WRN-16-4, WRN-28-2, every mode
    python jempp_torch_gpu.py --device cpu --quick         # a self-test on any machine: tiny sizes

The iteration is that of jempp_torch.py with the collapsed inner loop, bf16 autocast over float32 weights,
channels-last. Modes:
  eager    as written
  compile  torch.compile(mode="reduce-overhead"), which uses CUDA graphs by itself
  graph    eager kernels captured by hand: one graph per outer step, one for the rest
The compiled modes run the three passes of the loss one after another after the chains (the published order has the pass
over the data before them), so that they form one graph: the work is the same. While chains move, gradients of the
weights are switched off, so that compiled code computes none.

Output is a JSON document: rows of setting, mode, median_s, min_s and bytes of device memory.
"""
import argparse
import json
import pathlib
import platform
import statistics
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from jempp_torch import Trainer, log_density  # noqa: E402

# name, depth, width
NETWORKS = [("WRN-28-10", 28, 10), ("WRN-16-4", 16, 4), ("WRN-28-2", 28, 2)]


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


def measure(a, mode):
    cuda = torch.device(a.device).type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = free_bytes(a)
    torch.manual_seed(0)
    trainer, times = MODES[mode](a), []
    for i in range(a.warmup + a.iters):
        start = time.perf_counter()
        trainer.iteration(i)  # ends in .item(), which synchronises
        if cuda:
            torch.cuda.synchronize()
        if i >= a.warmup:
            times.append(time.perf_counter() - start)
    row = {"median_s": statistics.median(times), "min_s": min(times)}
    if cuda:
        # The allocator never returns memory, so the difference is the peak, workspaces of libraries included.
        row |= {"peak_bytes": before - free_bytes(a), "allocated_bytes": torch.cuda.max_memory_allocated()}
    del trainer
    return row


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="cuda")
    p.add_argument("--network", choices=[n[0] for n in NETWORKS], action="append", help="one of these only")
    p.add_argument("--mode", choices=MODES, action="append", help="one of these only")
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--outer", type=int, default=10, help="M")
    p.add_argument("--warmup", type=int, default=5)
    p.add_argument("--iters", type=int, default=20)
    p.add_argument("--dtype", choices=["f32", "bf16"], default="bf16", help="bf16: autocast, float32 weights")
    p.add_argument("--quick", action="store_true", help="WRN-10-1 on 8×8 images: a self test")
    p.add_argument("--json", metavar="FILE", help="write the document there too")
    a = p.parse_args()
    a.image, a.classes, a.buffer, a.inner, a.literal, a.channels_last = [32, 32, 3], 10, 1000, 5, False, True
    a.networks = [n for n in NETWORKS if not a.network or n[0] in a.network]
    if a.quick:
        a.networks, a.image, a.batch, a.outer, a.warmup, a.iters = [("WRN-10-1", 10, 1)], [8, 8, 1], 4, 2, 1, 2
    a.modes = a.mode or list(MODES)
    if torch.device(a.device).type != "cuda":
        a.modes = [m for m in a.modes if m != "graph"]
    return a


def main():
    a = arguments()
    if torch.device(a.device).type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU; --device cpu --quick tests the script")
    torch.backends.cudnn.benchmark = True
    name = torch.cuda.get_device_name() if torch.device(a.device).type == "cuda" else platform.processor() or "CPU"
    rows = []
    for network, a.depth, a.width in a.networks:
        for mode in a.modes:
            row = {"network": network, "depth": a.depth, "width": a.width, "batch": a.batch, "outer": a.outer,
                   "inner": a.inner, "dtype": a.dtype, "mode": mode}
            try:
                row |= measure(a, mode)
            except (RuntimeError, torch.OutOfMemoryError) as error:
                row["error"] = str(error).splitlines()[0][:300]
            rows.append(row)
            took = f"median {row['median_s'] * 1e3:.2f} ms" if "median_s" in row else row["error"]
            print(f"{network} {mode} {a.dtype}: {took}", file=sys.stderr, flush=True)
    document = {"torch": torch.__version__, "device": name, "rows": rows}
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
