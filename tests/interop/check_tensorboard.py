#!/usr/bin/env python3
"""Compares event files of jempp-cli train, read by TensorBoard's own reader, with the run's metrics and images.

    venv/bin/python check_tensorboard.py ../../target/release/jempp-cli      # tensorboard, numpy

Prints what it finds and fails if something is missing or differs.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from tensorboard import version
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

failed = []


def check(what, ok):
    print(f"{'ok' if ok else 'WRONG':<6} {what}")
    if not ok:
        failed.append(what)


def main(cli):
    folder = pathlib.Path(tempfile.mkdtemp())
    print(f"tensorboard {version.VERSION}")
    base = ["train.epochs=4", "train.sample_every=1", "train.checkpoint_every=2", "data.valid_size=100"]

    def run(*args):
        return subprocess.run([cli, *args], cwd=folder, check=True, capture_output=True, text=True)

    run("train", "-q", "--out", "run", *base)
    board = EventAccumulator(str(folder / "run" / "tb"), size_guidance={"scalars": 0, "images": 0, "histograms": 0})
    board.Reload()
    tags = board.Tags()
    metrics = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [m for m in metrics if m["event"] == "step"]
    valid = [m for m in metrics if m["event"] == "valid"]
    result = json.loads((folder / "run" / "result.json").read_text())
    names = {
        "train/loss": "loss", "train/cross_entropy": "ce", "train/accuracy": "accuracy", "train/lr": "lr",
        "log_density/data": "log_density_data", "log_density/chains": "log_density_chain", "log_density/gap": "gap",
    }
    for tag, key in names.items():
        got = [(e.step, e.value) for e in board.Scalars(tag)] if tag in tags["scalars"] else []
        want = [(m["step"], float(np.float32(m[key]))) for m in steps]
        check(f"{tag}: {len(want)} points as in metrics.jsonl", got == want)
    got = [e.value for e in board.Scalars("valid/accuracy")]
    check(f"valid/accuracy: {len(valid)} points", got == [float(np.float32(m["accuracy"])) for m in valid])
    test = board.Scalars("test/accuracy")[0].value
    check("test/accuracy as in result.json", test == float(np.float32(result["test"]["classification"]["accuracy"])))
    images = board.Images("chains")
    files = sorted((folder / "run" / "samples").glob("chains_epoch_*.png"))
    same = [i.encoded_image_string for i in images] == [f.read_bytes() for f in files]
    check(f"chains: {len(files)} pictures, {images[0].width}×{images[0].height}, the same bytes as in samples/", same)
    check("chains_by_class: a picture", len(board.Images("chains_by_class")) == 1)
    for tag in ["log_density_of/data", "log_density_of/chains"]:
        all_of = board.Histograms(tag)
        whole = all(sum(e.histogram_value.bucket) == e.histogram_value.num > 200 for e in all_of)
        check(f"{tag}: {len(all_of)} histograms of {all_of[-1].histogram_value.num:.0f} values", len(all_of) == 4 and whole)
    # Resumed from a checkpoint before the end: the new file invalidates what the old one holds for later steps.
    (folder / "run" / "result.json").unlink()
    run("train", "-q", "--resume", "run", "train.epochs=5")
    files = sorted((folder / "run" / "tb").iterdir())
    check(f"resumed: {len(files)} files", len(files) == 2)
    again = EventAccumulator(str(folder / "run" / "tb"), size_guidance={"scalars": 0})
    again.Reload()
    steps = [e.step for e in again.Scalars("train/loss")]
    check(f"resumed: {len(steps)} points, each step once and in order", steps == sorted(set(steps)) and len(steps) > len(images))
    run("train", "-q", "--out", "off", *base, "train.tensorboard=false")
    check("train.tensorboard=false writes none", not (folder / "off" / "tb").exists())
    print("all is well" if not failed else f"{len(failed)} failed: {failed}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
