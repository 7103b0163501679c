"""jempp's own evaluations beside the packages of others, on one model through Python. Prints Markdown tables.

    compare.py [--folder DIR] [--parts pgd,auto,outliers,speed]

Trains JEM++ on scikit-learn's copy of the digits, 1797 images of 8x8, with the last 256 as test images; attacks these with
foolbox (PGD, L-infinity and L2) and AutoAttack (standard) through `jempp.torch.as_module`, and compares robust accuracy with
`jempp-cli eval attack`; and compares the metrics of log p(x) as an outlier score with pytorch-ood's. Needs what
`requirements.txt` lists, and auto-attack from its repository (`run.sh` installs both). Exits with 1 if a number differs by
more than what must hold: robust accuracy by more than 0.01, metrics by more than 1e-6.
"""
import argparse
import json
import logging
import pathlib
import subprocess
import sys
import tempfile
import time

import foolbox
import numpy as np
import torch
from autoattack import AutoAttack
from pytorch_ood.metrics import AUROC
from sklearn.datasets import load_digits

import jempp
import jempp.torch
from jempp import _library, cli

IMAGES, EPOCHS = 256, 30
EPSILON = {"linf": [0.05, 0.1, 0.2], "l2": [0.5, 1.0]}
STEPS, RESTARTS = 100, 5
# Radius of AutoAttack, and the steps of our PGD beside it, with ten restarts.
AUTO = {"linf": (0.1, 100), "l2": (0.5, 200)}
WRONG = []


def row(*cells):
    print("| " + " | ".join(c if isinstance(c, str) else f"{c:.4f}" for c in cells) + " |", flush=True)


def table(title, *head):
    print(f"\n## {title}\n")
    row(*head)
    print("|" + "---|" * len(head))


def within(name, ours, theirs, tolerance):
    if not abs(ours - theirs) <= tolerance:
        WRONG.append(f"{name}: {ours} and {theirs} differ by more than {tolerance}")


def own_attacks(path, norm, epsilons, steps, restarts):
    """Accuracy under jempp's PGD, by radius, and of the clean images."""
    radii = ",".join(map(str, epsilons))
    command = [cli.executable(), "eval", "attack", "--model", path, "--norm", norm, "--epsilon", radii, "--threads", "1"]
    command += ["--steps", str(steps), "--restarts", str(restarts), "--json", "--quiet"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)[0]
    return found["clean"]["value"], found["points"]


def pgd(path, module, x, y):
    """PGD on the cross-entropy: the same steps, step sizes and restarts, but other random starts."""
    model = foolbox.PyTorchModel(module, bounds=(0, 1))
    kinds = {"linf": (foolbox.attacks.LinfPGD, 1 / 30), "l2": (foolbox.attacks.L2PGD, 1 / 40)}
    title = f"Accuracy under PGD, {len(y)} images, {STEPS} steps, {RESTARTS} restarts"
    table(title, "norm", "ε", "jempp, cross-entropy", "foolbox", "jempp, worst of both losses")
    for norm, (attack, size) in kinds.items():
        clean, points = own_attacks(path, norm, EPSILON[norm], STEPS, RESTARTS)
        theirs = float((module(x).argmax(1) == y).float().mean())
        within(f"clean, {norm}", clean, theirs, 1e-6)
        row(norm, "0", clean, theirs, clean)
        for point in points:
            repeated = attack(steps=STEPS, rel_stepsize=size).repeat(RESTARTS)
            _, _, success = repeated(model, x, y, epsilons=[point["epsilon"]])
            robust, ours = float((~success).float().mean()), point["cross_entropy"]["value"]
            row(norm, str(point["epsilon"]), ours, robust, point["worst"]["value"])
            within(f"PGD, {norm}, {point['epsilon']}", ours, robust, 0.01)


def auto(path, module, x, y):
    """AutoAttack: APGD on two losses, FAB and Square, each on the images that withstood those before."""
    table(f"Accuracy under AutoAttack (standard), {len(y)} images", "norm", "ε", "jempp, PGD with ten restarts", "AutoAttack", "seconds")
    for norm, (epsilon, steps) in AUTO.items():
        ours = own_attacks(path, norm, [epsilon], steps, 10)[1][0]["worst"]["value"]
        name = {"linf": "Linf", "l2": "L2"}[norm]
        adversary = AutoAttack(module, norm=name, eps=epsilon, version="standard", device="cpu", verbose=False, seed=0)
        start = time.perf_counter()
        found = adversary.run_standard_evaluation(x, y, bs=len(y))
        robust = float((module(found).argmax(1) == y).float().mean())
        row(norm, str(epsilon), ours, robust, f"{time.perf_counter() - start:.0f}")
        within(f"AutoAttack, {norm}", ours, robust, 0.01)


def outliers(path, model, images):
    """AUROC of log p(x) against the outlier sets that jempp-cli makes, recomputed from images of the same kind."""
    rng = np.random.default_rng(0)
    n = len(images)
    sets = {
        "shuffled pixels": rng.permuted(images.reshape(n, -1), axis=1).reshape(images.shape),
        "uniform noise": rng.integers(0, 256, images.shape).astype(np.uint8),
        "inverted": 255 - images,
        "noisy digits": np.clip(images + rng.normal(0, 25, images.shape), 0, 255).astype(np.uint8),
    }
    table(f"AUROC of log p(x), {n} images against {n}", "against", "jempp", "pytorch-ood")
    with tempfile.TemporaryDirectory() as folder:
        for name, other in sets.items():
            data = pathlib.Path(folder) / f"{name.replace(' ', '_')}.npz"
            np.savez(data, images=other, labels=np.arange(n) % 10, test_images=other, test_labels=np.arange(n) % 10)
            command = [cli.executable(), "eval", "ood", "--model", path, "--ood-data", data]
            command += ["--no-gradient", "--json", "--quiet"]
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            # The first set is ours; jempp-cli adds synthetic ones.
            ours = said["against"][0]["scores"][0]["separation"]["auroc"]["value"]
            scores = -np.concatenate([model.log_density(images), model.log_density(other)])
            metric = AUROC()
            metric.update(torch.from_numpy(scores), torch.tensor([1] * n + [-1] * n))
            theirs = float(next(iter(metric.compute().values())))
            row(name, ours, theirs)
            within(f"AUROC, {name}", ours, theirs, 1e-6)


def speed(model):
    """The best of many calls, bare and packaged in turn, so that other work on the machine disturbs both alike."""
    title = "Time of `logits`: the library called by ctypes alone, and by the package"
    table(title, "network", "images", "bare", "package", "added", "throughput")
    config = {"depth": 10, "widen_factor": 1, "image_size": [32, 32, 3], "classes": 10}
    train = {"batch_size": 4, "schedule": "constant"}
    with jempp.Trainer({"preset": "jempp", "model": config, "train": train, "sampler.init": "uniform"}, threads=1) as t:
        larger = t.model()
    function = _library.library().jempp_logits
    for name, m in (("digits, 8×8", model), ("WRN-10-1, 32×32", larger)):
        for n in (1, 64):
            x = np.random.default_rng(0).uniform(-1, 1, (n, *m.image_shape)).astype(np.float32)
            out, handle = np.empty((n, m.classes), np.float32), m._handle.get()
            calls = {
                "bare": lambda: function(handle, x.ctypes.data, n, out.ctypes.data, out.size),  # noqa: B023
                "package": lambda: m.logits(x),  # noqa: B023
            }
            best = dict.fromkeys(calls, np.inf)
            for _ in range(2000 if n == 1 else 400):
                for kind, call in calls.items():
                    start = time.perf_counter()
                    call()
                    best[kind] = min(best[kind], time.perf_counter() - start)
            bare, package = best["bare"] * 1e6, best["package"] * 1e6
            row(name, str(n), f"{bare:.0f} µs", f"{package:.0f} µs", f"{package - bare:.0f} µs", f"{bare / package:.3f}")


def prepare(folder):
    """The data set, and a run on it; both are kept in the folder."""
    digits = load_digits()
    images = (digits.images[..., np.newaxis] / 16 * 255).round().astype(np.uint8)
    labels = digits.target.astype(np.int64)
    data, out = folder / "digits.npz", folder / "run"
    if not data.exists():
        train, test = slice(None, -IMAGES), slice(-IMAGES, None)
        np.savez(data, images=images[train], labels=labels[train], test_images=images[test], test_labels=labels[test])
    if not out.exists():
        jempp.train("preset=digits", f"data.dataset={data}", f"train.epochs={EPOCHS}", out=out, seed=0)
    return out, images[-IMAGES:], labels[-IMAGES:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=pathlib.Path, help="keeps data set and run, for parts at different times")
    parser.add_argument("--parts", default="pgd,auto,outliers,speed")
    a = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        path, images, labels = prepare((a.folder or pathlib.Path(temporary)).absolute())
        model = jempp.load(path, threads=1)
        e = model.evaluate(images, labels)
        print(f"Model: `preset=digits`, {EPOCHS} epochs; test accuracy {e.accuracy:.4f}, ECE {e.ece:.4f}.", flush=True)
        module = jempp.torch.as_module(model, bounds=(0, 1))
        x, y = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float() / 255, torch.from_numpy(labels)
        if "pgd" in a.parts:
            pgd(path, module, x, y)
        if "auto" in a.parts:
            auto(path, module, x, y)
        if "outliers" in a.parts:
            outliers(path, model, images)
        if "speed" in a.parts:
            speed(model)
    sys.exit("\n".join(WRONG) or 0)


main()
