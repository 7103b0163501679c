#!/usr/bin/env python3
"""Tables that compare each switch of later recipes alone with the preset `digits`, and combinations.

    python3 docs/measurements/modern.py OUT

Needs only the standard library and `jempp-cli` (on the PATH, or named by JEMPP_CLI). Two runs at a time, with one thread
each; finished runs are not repeated. All see the same 1,237 training images for as many iterations; 200 images of the
training part are held back, and what is chosen is chosen on these. A run that has diverged has no row of its own but
counts in the number of its seeds that did.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLI = os.environ.get("JEMPP_CLI", "jempp-cli")
SEEDS = (0, 1, 2)
COMMON = ["preset=digits", "data.valid_size=200", "train.sample_every=0", "train.eval_every=1000", "train.checkpoint_every=1000"]
CLEAN = ["data.p_x_sigma=0"]
EMA = ["train.ema=0.99"]
COSINE = ["train.schedule=cosine"]
SWITCHES = {
    "`preset=digits`": [],
    "σ of p(x) 0": CLEAN,
    "labelled batch 128": ["train.labelled_batch_size=128"],
    "weight decay 5e-4": ["train.weight_decay=5e-4"],
    "EMA 0.99": EMA,
    "cosine": COSINE,
    "M = 5": ["sampler.outer_steps=5"],
    "ASAM ρ 0.5": ["train.sam_rho=0.5"],
    "ASAM ρ 2": ["train.sam_rho=2"],
    "clipped to norm 1": ["train.clip_grad_norm=1"],
    "BCE": ["train.energy_loss=bce"],
    "ramp of 300": ["train.p_x_warmup_iters=300"],
}
MODERN = [*CLEAN, "train.labelled_batch_size=128", "train.weight_decay=5e-4", *EMA, *COSINE, "sampler.outer_steps=5"]
TOGETHER = {
    "`preset=digits`": [],
    "with all of `modern`, EMA 0.99": MODERN,
    "the same, σ of p(x) 0.1": [*MODERN, "data.p_x_sigma=0.1"],
    "the same, ASAM ρ 0.5": [*MODERN, "train.sam_rho=0.5"],
}
# Without the stabilisers of the preset, the published setting diverges here; nothing is rolled back.
BARE = ["train.on_divergence=stop", "train.energy_l2=0", "data.sigma=0.03", "sampler.noise=0", "sampler.uniform_reinit_freq=0"]
STABLE = {
    "none": BARE,
    "ASAM ρ 0.5": [*BARE, "train.sam_rho=0.5"],
    "clipped to norm 1": [*BARE, "train.clip_grad_norm=1"],
    "BCE": [*BARE, "train.energy_loss=bce"],
    "ramp of 300": [*BARE, "train.p_x_warmup_iters=300"],
}
TABLES = {"Each switch alone": SWITCHES, "Together": TOGETHER, "Instead of the stabilisers": STABLE}
COLLAPSED = 5  # exit code of a training that has diverged


def cli(*args, may_fail=False):
    done = subprocess.run([CLI, *map(str, args)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0 and not (may_fail and done.returncode == COLLAPSED):
        sys.exit(f"{args}: exit code {done.returncode}")
    return done.stdout if done.returncode == 0 else None


def named(keys, seed):
    return " ".join([*keys, str(seed)])


def train(run, keys, seed):
    """Trains unless that was done; returns what `train` reports, or None if it diverged."""
    kept = run / "printed.json"
    if not kept.exists():
        shutil.rmtree(run, ignore_errors=True)  # left by an interruption
        printed = cli("train", "-q", "--json", "--threads", 1, "--seed", seed, "--out", run, *COMMON, *keys, may_fail=True)
        kept.write_text(printed or "null")
    return json.loads(kept.read_text())


def evaluate(out, run, keys, seed):
    report = train(run, keys, seed)
    if report is None:
        return None
    kept = run / "row.json"
    if not kept.exists():
        row = {}
        for split, prefix in (("valid", "validation "), ("test", "")):
            c = json.loads(cli("eval", "calibration", "-q", "--json", "--model", run, "--split", split, "--seed", 0, "--out", run / split))
            row[prefix + "accuracy"] = c["accuracy"]["value"]
            if not prefix:
                row["ECE"] = c["plain"]["ece"]["value"]
        row["log p, shuffled"] = report["test"]["detection"][0]["auroc_log_density"]
        # Fresh samples as a separately trained softmax network sees them.
        samples = run / "samples.npz"
        samples.unlink(missing_ok=True)
        cli("sample", "-q", "--model", run, "-n", 200, "--seed", 0, "-o", samples)
        seen = [json.loads(l) for l in cli("predict", "-q", "--model", out / "judge", "-i", samples).splitlines()]
        row["sure samples"] = sum(s["probability"] > 0.9 for s in seen) / len(seen)
        row["gap"] = report["gap"][0]
        kept.write_text(json.dumps(row))
    return json.loads(kept.read_text())


def show(name, values):
    digits = 2 if name == "gap" else 3
    mean, low, high = (f"{f(values):.{digits}f}" for f in (statistics.mean, min, max))
    return mean if low == high else f"{mean} ({low}–{high})"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    train(out / "judge", ["train.p_x_weight=0"], 100)
    runs = {}
    with ThreadPoolExecutor(2) as pool:
        for seed in SEEDS:
            for rows in TABLES.values():
                for keys in rows.values():
                    at = named(keys, seed)
                    run = out / ("run-" + "".join(c if c.isalnum() else "-" for c in at))
                    if at not in runs:
                        runs[at] = pool.submit(evaluate, out, run, keys, seed)
        for title, rows in TABLES.items():
            print(f"\n{title}\n")
            header = None
            for name, keys in rows.items():
                each = [runs[named(keys, s)].result() for s in SEEDS]
                good = [e for e in each if e]
                if good and not header:
                    header = list(good[0])
                    print("| | diverged | " + " | ".join(header) + " |\n" + "|---" * (len(header) + 2) + "|")
                cells = [show(k, [e[k] for e in good]) for k in header] if good else ["–"] * len(header or [])
                print(f"| {name} | {len(each) - len(good)} of {len(each)} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
