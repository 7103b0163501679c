"""Times one JEM++ iteration alternately in jempp and in PyTorch, in pairs, and prints the ratios.

    python3 -m venv venv && venv/bin/pip install torch numpy
    cargo build --release --bin jempp-cli
    venv/bin/python benches/peers/pairs.py [--pairs 5] [--setting NAME] [--precision bf16] [--literal] [--json]

PyTorch is tried with every setting (channels-last or not, one thread or as many as jempp uses, bf16 as autocast), and
the fastest counts. The inner loop is collapsed on both sides, or with --literal run as published on both. Each side
warms up in a process of its own; runs alternate, so that changes in the machine's speed affect both. Also prints the
peak memory of each process: the smallest over the runs with the setting that counts.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
# depth, width, image, batch, chain steps, iterations per run
SETTINGS = {
    "wrn-16-2": (16, 2, (32, 32, 3), 64, 5, 3),
    "wrn-10-1": (10, 1, (32, 32, 3), 64, 5, 5),
    "digits": (10, 1, (8, 8, 1), 64, 10, 20),
    "wrn-28-10": (28, 10, (32, 32, 3), 8, 2, 2),
}


def measured(command):
    """Median seconds of an iteration from the last line of JSON, and the peak memory of the process in MB."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {child.returncode}")
    # Linux counts in units of 1024 bytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return json.loads(out.strip().splitlines()[-1])["median_s"], usage.ru_maxrss * unit / 1e6


def ours(s, threads, precision, literal):
    depth, width, image, batch, outer, iters = s
    return measured([
        str(HERE.parents[1] / "target/release/jempp-cli"), "--threads", str(threads),
        "--precision", precision, "bench", "train-step",
        f"model.depth={depth}", f"model.widen_factor={width}", f"model.image_size={list(image)}",
        f"train.batch_size={batch}", f"sampler.outer_steps={outer}", "sampler.buffer_size=1000", "data.pad=0",
        f"sampler.literal={str(literal).lower()}",
        "--iters", str(iters), "--json"])


def torch(s, threads, channels_last, precision, literal):
    depth, width, image, batch, outer, iters = s
    command = [sys.executable, str(HERE / "jempp_torch.py"), "--depth", depth, "--width", width, "--image", *image,
               "--batch", batch, "--outer", outer, "--threads", threads, "--iters", iters, "--dtype", precision,
               "--literal" if literal else "--collapsed", "--json"]
    command += ["--channels-last"] if channels_last else []
    return measured([str(c) for c in command])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--setting", choices=SETTINGS, action="append")
    p.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="of both")
    p.add_argument("--literal", action="store_true", help="N inner steps instead of one of N times the size")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    rows = []
    for name in a.setting or SETTINGS:
        s = SETTINGS[name]
        ways = {(t, cl): [] for t in sorted({1, a.threads}) for cl in (False, True)}
        mine = []
        for _ in range(a.pairs):
            mine.append(ours(s, a.threads, a.precision, a.literal))
            for way in ways:
                ways[way].append(torch(s, *way, a.precision, a.literal))
        medians = {way: statistics.median(t for t, _ in v) for way, v in ways.items()}
        best = min(medians, key=medians.get)
        ratios = [t / m for (t, _), (m, _) in zip(ways[best], mine)]
        memory, torch_memory = (min(mb for _, mb in side) for side in (mine, ways[best]))
        row = {"setting": name, "precision": a.precision, "literal": a.literal, "jempp_s": statistics.median(t for t, _ in mine), "torch_s": medians[best],
               "jempp_mb": memory, "torch_mb": torch_memory, "memory_ratio": torch_memory / memory,
               "torch_way": f"{best[0]} threads, {'channels-last' if best[1] else 'NCHW'}",
               "ratio": statistics.median(ratios), "ratios": ratios}
        rows.append(row)
        if not a.json:
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"{name} {a.precision}{' literal' if a.literal else ''}: jempp {row['jempp_s']:.4f} s, PyTorch {row['torch_s']:.4f} s ({row['torch_way']}), "
                  f"ratio {row['ratio']:.2f} ({spread} over {a.pairs} pairs); memory {memory:.0f} MB, "
                  f"PyTorch {torch_memory:.0f} MB, ratio {row['memory_ratio']:.2f}", flush=True)
    if a.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
