#!/usr/bin/env python3
"""Compares recipes for CIFAR-10 at equal cost on a WRN-10-1, to choose the one for a larger network.

    python3 docs/measurements/cifar_small.py DATA OUT               # one seed of each, judged by validation images
    python3 docs/measurements/cifar_small.py DATA OUT ROW… --seeds 3    # three seeds of the rows named, with test images

DATA is anything that data.dataset takes for CIFAR-10. Every row spends the same number of floating-point operations on
training, as `train --dry-run` counts them, stages together: cost is the same however busy the machine is. Needs only the
standard library and `jempp-cli` (on the PATH, or named by JEMPP_CLI). Finished runs are not repeated, and an interrupted
one is resumed. Chains are judged by a softmax network that took four times the budget, with another seed.
"""
import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

CLI = os.environ.get("JEMPP_CLI", "jempp-cli")
BUDGET = 130_000  # GFLOP: five minutes on two idle cores at 430 GFLOP/s
DIVERGED = 5  # exit code
NETWORK = ["model.depth=10", "model.widen_factor=1", "data.valid_size=5000"]
# One schedule for all: SGD, 300 iterations of warm-up, cosine to 0.
COMMON = [*NETWORK, "train.schedule=cosine", "train.warmup_iters=300", "train.weight_decay=5e-4", "train.ema=0.99",
          "train.epochs=1000000", "train.eval_every=1000000", "train.sample_every=0", "train.checkpoint_every=1",
          "train.on_divergence=stop"]
SOFTMAX = ["preset=softmax", "train.batch_size=128"]
JEMPP = ["preset=jempp", "sampler.outer_steps=5"]
MODERN = ["preset=modern"]
PGD = ["preset=pgd", "train.batch_size=128", "train.adversary=l2", "train.adversary_epsilon=0.5", "train.adversary_step=0.125"]
SECOND = [*MODERN, "train.lr=0.02"]
FROZEN = [*MODERN, "train.bn=frozen", "train.lr=0.01"]
# Name: the stages, each the share of the budget and its keys; a later stage starts from the one before it.
ROWS = {
    "softmax": [(1, SOFTMAX)],
    "PGD L2": [(1, PGD)],
    "JEM++ M=5": [(1, JEMPP)],
    "modern": [(1, MODERN)],
    "modern, sigma 0.03": [(1, [*MODERN, "data.p_x_sigma=0.03"])],
    "modern, ASAM": [(1, [*MODERN, "train.sam_rho=2"])],
    "modern, labelled 256": [(1, [*MODERN, "train.labelled_batch_size=256"])],
    "modern, BCE": [(1, [*MODERN, "train.energy_loss=bce"])],
    "modern, M=2": [(1, [*MODERN, "sampler.outer_steps=2", "train.energy_l2=0.1"])],
    "two stages": [(0.3, SOFTMAX), (0.7, SECOND)],
    "two stages, l2": [(0.3, SOFTMAX), (0.7, [*SECOND, "train.energy_l2=0.1"])],
    "two stages, ramp": [(0.3, SOFTMAX), (0.7, [*SECOND, "train.p_x_warmup_iters=500"])],
    "two stages, frozen": [(0.3, SOFTMAX), (0.7, FROZEN)],
    "two stages, frozen, l2": [(0.3, SOFTMAX), (0.7, [*FROZEN, "train.energy_l2=0.1"])],
    "two stages, frozen, BCE": [(0.3, SOFTMAX), (0.7, [*FROZEN, "train.energy_loss=bce"])],
}


def cli(*args, may_diverge=False):
    done = subprocess.run([CLI, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode and not (may_diverge and done.returncode == DIVERGED):
        sys.exit(f"{' '.join(map(str, args))}: exit code {done.returncode}\n{done.stderr}")
    return None if done.returncode else done.stdout


def iterations(keys, budget):
    """How many iterations of this configuration the budget pays for."""
    return int(budget / float(re.search(r"([\d.]+) GFLOP per iteration", cli("train", "--dry-run", *keys))[1]))


def train(run, keys, seed):
    """Whether the run ended without divergence. Goes on with an interrupted one."""
    ended = run.with_suffix(".ended")
    if not ended.exists():
        if (run / "ckpt" / "last").exists():
            printed = cli("train", "-q", "--resume", run, may_diverge=True)
        else:
            shutil.rmtree(run, ignore_errors=True)
            printed = cli("train", "-q", "--seed", seed, "--out", run, *keys, may_diverge=True)
        ended.write_text("diverged" if printed is None else "done")
    return ended.read_text() == "done"


def stages(out, data, rows, seed, budget=BUDGET):
    """Trains the stages of a row; returns the last run, or None if one diverged. Rows share the stages that they begin with."""
    run, described = None, f"seed {seed}"
    for share, keys in rows:
        described += f" {budget * share:.0f} {' '.join(keys)}"
        keys = [*COMMON, *keys, f"data.dataset={data}"]
        keys += [f"train.max_iters={iterations(keys, budget * share)}"] + ([f"train.from={run}"] if run else [])
        run = out / hashlib.sha256(described.encode()).hexdigest()[:12]
        run.with_suffix(".txt").write_text(described + "\n")
        if not train(run, keys, seed):
            return None
    return run


def sure(run, judge):
    """Fraction of 1,000 samples that the judge classifies with a probability above 0.8."""
    samples = run / "samples.npz"
    if not samples.exists():
        cli("sample", "-q", "--model", run, "-n", 1000, "--seed", 0, "-o", samples)
    seen = [json.loads(line)["probability"] for line in cli("predict", "-q", "--model", judge, "-i", samples).splitlines()]
    return sum(p > 0.8 for p in seen) / len(seen)


def evaluate(run, split, judge, generates):
    kept = run / f"row-{split}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    common = ["-q", "--json", "--model", run, "--split", split, "--seed", 0]
    c = json.loads(cli("eval", "calibration", *common, "--out", run / "calibration"))
    row = {"accuracy": c["accuracy"]["value"], "ECE": c["plain"]["ece"]["value"]}
    d = json.loads(cli("eval", "ood", *common, "--no-gradient", "--n", 2000, "--out", run / "ood"))
    for against in d["against"]:
        if against["set"] in ("shuffled pixels", "uniform noise", "interpolated"):
            for s in against["scores"]:
                if s["score"] == "log p(x)":
                    row[f"log p, {against['set'].split()[0]}"] = s["separation"]["auroc"]["value"]
    attack = ["--norm", "l2", "--epsilon", 0.5, "--n", 256, "--out", run / "attack"]
    row["robust, L2 0.5"] = json.loads(cli("eval", "attack", *common, *attack))[0]["points"][0]["worst"]["value"]
    row["sure samples"] = sure(run, judge) if generates else None
    kept.write_text(json.dumps(row))
    return row


def cell(values):
    if any(v is None for v in values):
        return "–"
    mean, low, high = (f"{f(values):.3f}" for f in (statistics.mean, min, max))
    return mean if low == high else f"{mean} ({low}–{high})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="all rows if none is named")
    parser.add_argument("--seeds", type=int, default=1)
    a = parser.parse_args()
    unknown = [r for r in a.rows if r not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    a.out.mkdir(parents=True, exist_ok=True)
    split = "test" if a.seeds > 1 else "valid"
    judge = stages(a.out, a.data, [(1, SOFTMAX)], 100, 4 * BUDGET)
    header = False
    for name in a.rows or ROWS:
        runs = [stages(a.out, a.data, ROWS[name], seed) for seed in range(a.seeds)]
        generates = "preset=softmax" not in ROWS[name][-1][1] and "preset=pgd" not in ROWS[name][-1][1]
        rows = [evaluate(run, split, judge, generates) for run in runs if run]
        if rows and not header:
            header = ["diverged", *rows[0]]
            print(f"| {split} | " + " | ".join(header) + " |\n" + "|---" * (len(header) + 1) + "|")
        cells = [cell([r[k] for r in rows]) for k in rows[0]] if rows else []
        print(f"| {name} | {runs.count(None)} of {len(runs)} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
