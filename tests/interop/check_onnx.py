#!/usr/bin/env python3
"""Compares ONNX files from jempp-cli convert, run by onnxruntime, with jempp-cli predict.

    venv/bin/python check_onnx.py ../../target/release/jempp-cli      # numpy, onnx, onnxruntime

Prints one line per comparison and fails if one differs.
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
TOLERANCE = 1e-4  # largest |a − b| / largest |b|
TRAIN = ["train", "-q", "train.max_iters=20"]
MODELS = {
    "batch": [],
    "energy": ["model.energy_head=true"],
    "instance": ["model.norm=instance"],
    "layer": ["model.norm=layer"],
    "act": ["model.norm=act", "train.lr=0.01"],
    "none": ["model.norm=none", "train.lr=0.01"],
    "deeper": ["model.depth=16", "model.widen_factor=2", "train.max_iters=3"],
}
failed = []


def main(cli):
    folder = pathlib.Path(tempfile.mkdtemp())
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")

    def run(*args):
        return subprocess.run([cli, *map(str, args)], cwd=folder, check=True, capture_output=True, text=True).stdout

    def compare(name, model, images):
        np.savez(folder / "x.npz", images=images)
        out = folder / f"{name}.npz"
        run("predict", "-m", model, "-i", "x.npz", "-o", out)
        ours = np.load(out)
        for bn in ["fold", "keep"]:
            path = folder / f"{name}-{bn}.onnx"
            run("convert", model, path, "--onnx-bn", bn)
            onnx.checker.check_model(onnx.load(path), full_check=True)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            nchw = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
            # All images at once, and a single one.
            for k in [len(images), 1]:
                got = session.run(["logits", "log_density"], {"images": nchw[:k]})
                for what, a in zip(["logits", "log_density"], got):
                    b = ours[what][:k]
                    error = float(np.abs(a - b).max() / np.abs(b).max()) if a.shape == b.shape else np.inf
                    line = f"{name:<10} {bn}  {what:<12} of {k:>2} images"
                    print(f"{line:<50} {error:.1e}  (limit {TOLERANCE:.0e})")
                    if not error <= TOLERANCE:
                        failed.append(line)

    rng = np.random.default_rng(0)
    for name, keys in MODELS.items():
        run(*TRAIN, "--out", name, *keys)
        compare(name, name, rng.uniform(-1, 1, (30, 8, 8, 1)).astype(np.float32))
    compare("published", FIXTURES / "wrn10_1_official.pt", rng.uniform(-1, 1, (30, 32, 32, 3)).astype(np.float32))
    print("all is well" if not failed else f"{len(failed)} failed: {failed}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
