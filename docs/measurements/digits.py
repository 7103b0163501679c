#!/usr/bin/env python3
"""The tables of digits.md: JEM++ on the built-in digits, and variants that change one setting each.

    python3 docs/measurements/digits.py OUT

Needs only the standard library and `jempp-cli` (on the PATH, or named by JEMPP_CLI). Two runs at a time, with one
thread each: results do not depend on the number of threads. Finished runs are not repeated.
"""
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLI = os.environ.get("JEMPP_CLI", "jempp-cli")
NORMS = [
    "model.norm=instance", "model.norm=layer", "model.norm=act train.lr=0.01", "model.norm=none", "model.dropout=0.1",
    "model.energy_head=true model.norm=layer", "model.energy_head=true",
]
# Title, and each row's name with its seed and keys.
TABLES = {
    "JEM++": [(str(s), s, []) for s in range(6)],
    "Crops": [(str(s), s, ["data.pad=1"]) for s in range(3)],
    "The plain softmax classifier": [(str(s), s, ["train.p_x_weight=0"]) for s in range(3)],
    "Other norms, dropout, the energy head": [(f"`{keys}`", 1, keys.split()) for keys in NORMS],
}


def train(out, title, name, seed, keys):
    run = Path(out) / "".join(c if c.isalnum() else "-" for c in f"{title} {name}")
    kept = run / "printed.json"
    if not kept.exists():
        subprocess.run(["rm", "-rf", run], check=True)  # left by an interruption
        command = [CLI, "train", "-q", "--json", "--threads", 1, "--seed", seed, "--out", run, "train.sample_every=0", *keys]
        done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
        kept.write_text(done.stdout)
    return json.loads(kept.read_text())


def row(name, result):
    c, (shuffled, uniform) = result["test"]["classification"], result["test"]["detection"]
    gap = [f"{result['gap'][0]:+.2f}", f"{result['gap'][1]:.2f}"] if result.get("gap") else ["–", "–"]
    cells = [f"{c['accuracy']:.4f}", f"{c['ece']:.4f}", f"{c['nll']:.3f}"]
    cells += [f"{x[k]:.{d}f}" for k, d in (("auroc_log_density", 4), ("auroc_max_probability", 3)) for x in (shuffled, uniform)]
    return "| " + " | ".join([name, *cells, *gap]) + " |"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with ThreadPoolExecutor(2) as pool:
        asked = {t: [(r[0], pool.submit(train, sys.argv[1], t, *r)) for r in rows] for t, rows in TABLES.items()}
        for title, rows in asked.items():
            first = "" if rows[0][0].startswith("`") else "seed"
            print(f"\n{title}\n\n| {first} | accuracy | ECE | NLL | log p, shuffled | log p, uniform | max p, shuffled | max p, uniform "
                  "| gap | largest |\n|---|---|---|---|---|---|---|---|---|---|")
            for name, result in rows:
                print(row(name, result.result()), flush=True)


if __name__ == "__main__":
    main()
