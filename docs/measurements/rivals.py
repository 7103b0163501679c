#!/usr/bin/env python3
"""Compares JEM++ with a softmax network and adversarially trained ones of the same size, on the built-in digits.

    python3 docs/measurements/rivals.py choose OUT     # settings, by accuracy and robust accuracy on validation images
    python3 docs/measurements/rivals.py OUT            # three seeds of each with the settings below; prints the table

Needs only the standard library and `jempp-cli` (on the PATH, or named by JEMPP_CLI). All networks are WRN-10-1, see the
same 1,237 training images for as many iterations, and are evaluated on the same 360 test images; 200 images of the
training part are held back, and settings are chosen on these alone. Finished runs are not repeated.
"""
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLI = os.environ.get("JEMPP_CLI", "jempp-cli")
SEEDS = (0, 1, 2)
COMMON = ["preset=digits", "data.valid_size=200", "train.sample_every=0"]
PLAIN = ["train.p_x_weight=0"]


def adversarial(norm, epsilon):
    # As many image gradients per iteration as ten Langevin steps take; steps long enough to cross the ball.
    keys = {"adversary": norm, "adversary_epsilon": epsilon, "adversary_steps": 10, "adversary_step": epsilon / 4}
    return PLAIN + [f"train.{k}={v}" for k, v in keys.items()]


# Chosen with `choose` on validation images, by accuracy and then the mean of both robust accuracies; see rivals.md.
RIVALS = {
    "JEM++": [],
    "softmax": PLAIN + ["data.sigma=0.2"],
    "PGD-trained, L∞": adversarial("linf", 0.1),
    "PGD-trained, L2": adversarial("l2", 0.5),
}
# The settings that were compared.
TRIED = {
    "JEM++": {"σ 0.05": ["data.sigma=0.05"], "σ 0.1": [], "σ 0.2": ["data.sigma=0.2"]},
    "softmax": {f"σ {s}": PLAIN + [f"data.sigma={s}"] for s in (0.03, 0.1, 0.2)},
    "PGD-trained, L∞": {f"ε {e}": adversarial("linf", e) for e in (0.1, 0.2)},
    "PGD-trained, L2": {f"ε {e}": adversarial("l2", e) for e in (0.5, 1.0)},
}
LINF, L2 = 0.1, 0.5  # radii at which robust accuracy is compared


def cli(*args):
    return subprocess.run([CLI, *map(str, args)], check=True, stdout=subprocess.PIPE, text=True).stdout


def train(run, keys, seed):
    """Trains on one thread, since networks this small gain nothing from a second; two are trained at a time."""
    if not (run / "result.json").exists():
        shutil.rmtree(run, ignore_errors=True)  # left by an interruption
        cli("train", "-q", "--threads", 1, "--seed", seed, "--out", run, *COMMON, *keys)
    return run


def train_all(runs):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda r: train(*r), runs))


def attacked(run, norm, epsilon, split, out):
    args = ["--model", run, "--norm", norm, "--epsilon", epsilon, "--split", split, "--seed", 0, "--out", out]
    return json.loads(cli("eval", "attack", "-q", "--json", *args))[0]["points"][0]["worst"]["value"]


def evaluate(run, split):
    out = run / f"rivals-{split}"
    c = json.loads(cli("eval", "calibration", "-q", "--json", "--model", run, "--split", split, "--seed", 0, "--out", out))
    d = json.loads(cli("eval", "ood", "-q", "--json", "--no-gradient", "--model", run, "--split", split, "--seed", 0, "--out", out))
    row = {"accuracy": c["accuracy"]["value"], "ECE": c["plain"]["ece"]["value"]}
    if c["scaled"]:
        row["ECE scaled"] = c["scaled"]["ece"]["value"]
    for against in d["against"]:
        if against["set"] in ("shuffled pixels", "interpolated"):
            for s in against["scores"]:
                name = {"log p(x)": "log p", "max p(y|x)": "max p"}[s["score"]]
                row[f"{name}, {against['set'].split()[0]}"] = s["separation"]["auroc"]["value"]
    row[f"L∞ {LINF}"] = attacked(run, "linf", LINF, split, out / "linf")
    row[f"L2 {L2}"] = attacked(run, "l2", L2, split, out / "l2")
    return row


def table(rows):
    names = [k for k in rows[0][1]]
    print("| | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for name, row in rows:
        print(f"| {name} | " + " | ".join(row[k] for k in names) + " |", flush=True)


def choose(out):
    tried = [(f"{rival}, {name}", keys) for rival, settings in TRIED.items() for name, keys in settings.items()]
    runs = train_all([(out / f"choose-{name}".replace(", ", "-").replace(" ", "-"), keys, 100) for name, keys in tried])
    table([
        (name, {k: f"{v:.3f}" for k, v in evaluate(run, "valid").items()}) for (name, _), run in zip(tried, runs)
    ])


def compare(out):
    rows, start = [], time.time()
    named = lambda rival, seed: out / f"{rival}-{seed}".replace(", ", "-").replace(" ", "-")
    train_all([(named(rival, s), keys, s) for rival, keys in RIVALS.items() for s in SEEDS])
    for rival in RIVALS:
        each = [evaluate(named(rival, s), "test") for s in SEEDS]
        # Mean and range over the seeds.
        show = lambda v: f"{statistics.mean(v):.3f} ({min(v):.3f}–{max(v):.3f})"
        rows.append((rival, {k: show([e[k] for e in each]) for k in each[0]}))
    table(rows)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, wall = (used.ru_utime + used.ru_stime) / 60, (time.time() - start) / 60
    print(f"\n{len(rows)} × {len(SEEDS)} networks trained and evaluated in {wall:.1f} min, {cpu:.1f} min of one core")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    search = arguments[:1] == ["choose"]
    if len(arguments) != 1 + search:
        sys.exit(__doc__)
    folder = Path(arguments[-1])
    folder.mkdir(parents=True, exist_ok=True)
    (choose if search else compare)(folder)
