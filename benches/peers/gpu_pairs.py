#!/usr/bin/env python3
"""Compares jempp with PyTorch on one GPU: runs both, or reads what they wrote, and checks the ratios against targets.

    cargo build --release --bin gpu-check
    python benches/peers/gpu_pairs.py                              # runs both; needs a GPU, and PyTorch with CUDA
    python benches/peers/gpu_pairs.py --ours gpu.json --torch torch.json

Targets: twice as fast as eager, 1.3 times as fast as the faster of torch.compile and captured graphs, at most 0.7 times
the smaller memory of these two, and half of the device's peak rate of bf16 products (cuBLAS, 8192²). The exit code is 1
if a target is missed, 2 if there is nothing to compare.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
EAGER, COMPILED, MEMORY, PEAK = 2.0, 1.3, 0.7, 0.5
# The targets are for bf16; the others stand in where bf16 was not measured.
PRECISIONS = ["bf16", "tf32", "f32"]


def run(a):
    """Runs both one after the other, so that neither finds memory taken by the other."""
    if not a.ours:
        a.ours = pathlib.Path(tempfile.mkdtemp()) / "gpu.json"
        command = [str(HERE.parents[1] / "target/release/gpu-check"), "--no-sanitizer", "--json", str(a.ours)]
        subprocess.run(command + (["--quick"] if a.quick else ["--require"]), check=True, stdout=sys.stderr)
    if not a.torch:
        a.torch = pathlib.Path(tempfile.mkdtemp()) / "torch.json"
        command = [sys.executable, str(HERE / "jempp_torch_gpu.py"), "--json", str(a.torch), "--device", a.torch_device]
        subprocess.run(command + (["--quick"] if a.quick else []), check=True, stdout=sys.stderr)
    return json.loads(pathlib.Path(a.ours).read_text()), json.loads(pathlib.Path(a.torch).read_text())


def key(row):
    return row["depth"], row["width"], row["batch"], row["outer"], row["inner"]


def of_group(ours, group):
    return [p["data"] for p in ours["programs"] if p["group"] == group and p["status"] == "ok"]


def compare(ours, torch):
    peak = [p["tflops"] for p in of_group(ours, "most that the device can") if p["dtype"] == "bf16"]
    rows = []
    for mine in sorted(of_group(ours, "training iteration"), key=lambda r: PRECISIONS.index(r["precision"])):
        if any(key(r["ours"]) == key(mine) for r in rows):
            continue
        theirs = {r["mode"]: r for r in torch["rows"] if key(r) == key(mine) and "median_s" in r}
        row = {"network": mine["network"], "ours": mine, "precision": mine["precision"], "bars": {}}
        bar = lambda name, value, good: row["bars"].__setitem__(name, {"value": value, "met": good})
        if "eager" in theirs:
            ratio = theirs["eager"]["median_s"] / mine["median_s"]
            bar(f"eager ≥ {EAGER}", ratio, ratio >= EAGER)
        fast = [theirs[m] for m in ("compile", "graph") if m in theirs]
        if fast:
            ratio = min(r["median_s"] for r in fast) / mine["median_s"]
            bar(f"compiled ≥ {COMPILED}", ratio, ratio >= COMPILED)
        memory = [r["peak_bytes"] for r in theirs.values() if r.get("peak_bytes")]
        if memory:
            ratio = mine["peak_bytes"] / min(memory)
            bar(f"memory ≤ {MEMORY}", ratio, ratio <= MEMORY)
        if peak and peak[0] > 0:
            share = mine["tflops"] / peak[0]
            bar(f"share of bf16 peak ≥ {PEAK}", share, share >= PEAK)
        rows.append(row)
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ours", help="what gpu-check --json wrote; without it gpu-check runs")
    p.add_argument("--torch", help="what jempp_torch_gpu.py --json wrote; without it that runs")
    p.add_argument("--torch-device", default="cuda")
    p.add_argument("--quick", action="store_true", help="tiny sizes: tests this script, and says nothing")
    p.add_argument("--json", metavar="FILE", help="write the comparison there")
    a = p.parse_args()
    ours, torch = run(a)
    rows = compare(ours, torch)
    missed = 0
    for row in rows:
        mine = row["ours"]
        print(f"{row['network']}, batch {mine['batch']}, M = {mine['outer']}: {mine['median_s'] * 1e3:.2f} ms in {row['precision']}")
        if row["precision"] != "bf16":
            print("  (PyTorch ran in bf16; programs here have no bf16)")
        for name, bar in row["bars"].items():
            missed += not bar["met"]
            print(f"  {name:<24} {bar['value']:6.2f}  {'met' if bar['met'] else 'MISSED'}")
    if a.json:
        document = {"devices": ours.get("devices"), "torch": torch["torch"], "torch_device": torch["device"], "rows": rows}
        pathlib.Path(a.json).write_text(json.dumps(document, indent=1) + "\n")
    if not any(row["bars"] for row in rows):
        print("there is nothing to compare")
        sys.exit(2)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
