#!/usr/bin/env python3
"""Models to PyTorch and back: compares jempp-cli convert with torch.load, values and logits.

    venv/bin/python check_torch.py ../../target/release/jempp-cli      # torch, numpy, safetensors

Prints one line per comparison and fails if one differs.
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file

import published

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
TOLERANCE = 1e-5  # of logits, relative to the largest
failed = []


def say(what, error, limit):
    print(f"{what:<72} {error:.1e}  (limit {limit:.1e})")
    if not error <= limit:
        failed.append(what)


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


def main(cli):
    folder = pathlib.Path(tempfile.mkdtemp())

    def run(*args):
        return subprocess.run([cli, *map(str, args)], cwd=folder, check=True, capture_output=True, text=True).stdout

    fixture = load_file(FIXTURES / "wrn10_1.safetensors")
    x, logits = fixture["in.x_labelled"], fixture["eval.logits"]
    np.savez(folder / "x.npz", images=x.permute(0, 2, 3, 1).numpy())
    for name in ["wrn10_1_official.pt", "wrn10_1_official_legacy.pt"]:
        given = torch.load(FIXTURES / name, weights_only=True)
        run("predict", "-m", FIXTURES / name, "-i", "x.npz", "-o", f"{name}.npz")
        ours = np.load(folder / f"{name}.npz")
        say(f"{name}: logits of jempp, fixture", relative(torch.tensor(ours["logits"]), logits), TOLERANCE)
        density = relative(torch.tensor(ours["log_density"]), fixture["eval.log_density"])
        say(f"{name}: log p(x) of jempp, fixture", density, TOLERANCE)
        # Exported and imported again, in two ways.
        run("convert", FIXTURES / name, f"{name}.safetensors")
        run("convert", f"{name}.safetensors", f"{name}.safetensors.pt")
        run("convert", FIXTURES / name, f"{name}.pt")
        for back in [f"{name}.pt", f"{name}.safetensors.pt"]:
            saved = torch.load(folder / back, weights_only=True)
            off = [k for k, v in given["model_state_dict"].items() if not torch.equal(v, saved["model_state_dict"][k])]
            off += sorted(set(saved["model_state_dict"]) ^ set(given["model_state_dict"]))
            say(f"{back}: tensors that differ or lack", float(len(off)), 0.0)
            say(f"{back}: replay buffer", float(not torch.equal(saved["replay_buffer"], given["replay_buffer"])), 0.0)
            state = saved["model_state_dict"]
            shared = state["f.conv1.weight"].data_ptr() == state["f.layer_one.weight"].data_ptr()
            say(f"{back}: aliases are copies", float(not shared), 0.0)
            model, _ = published.load(folder / back)
            with torch.no_grad():
                say(f"{back}: logits of PyTorch, fixture", relative(model(x), logits), TOLERANCE)
        mapped = torch.load(folder / f"{name}.pt", weights_only=True, mmap=True)
        same = torch.equal(mapped["replay_buffer"], given["replay_buffer"])
        say(f"{name}.pt: mapped into memory, replay buffer", float(not same), 0.0)
    # A model trained by jempp-cli.
    run("train", "-q", "--out", "run", "train.max_iters=20")
    run("convert", "run", "run.pt")
    digits = torch.rand(50, 8, 8, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1
    np.savez(folder / "d.npz", images=digits.numpy())
    run("predict", "-m", "run", "-i", "d.npz", "-o", "run.npz")
    model, buffer = published.load(folder / "run.pt")
    with torch.no_grad():
        theirs = model(digits.permute(0, 3, 1, 2))
    say("run.pt: logits of PyTorch, jempp", relative(theirs, torch.tensor(np.load(folder / "run.npz")["logits"])), TOLERANCE)
    say("run.pt: replay buffer lacks", float(buffer is None or tuple(buffer.shape) != (1000, 1, 8, 8)), 0.0)
    # Means and covariances as published: samples, which the covariance's Cholesky factor must whiten.
    rng = np.random.default_rng(3)
    mean = torch.tensor(rng.uniform(-0.2, 0.2, (10, 64)), dtype=torch.float32)
    a = torch.tensor(rng.normal(0, 0.01, (10, 64, 64)), dtype=torch.float32)
    torch.save(mean, folder / "mean.pt")
    torch.save(a @ a.transpose(1, 2), folder / "cov.pt", _use_new_zipfile_serialization=False)
    run("convert", "run.pt", "bank.safetensors", "--mean", "mean.pt", "--cov", "cov.pt")
    bank = load_file(folder / "bank.safetensors")
    say("bank.safetensors: means", float(not torch.equal(bank["init.means"].flatten(), mean.flatten())), 0.0)
    factor = torch.linalg.cholesky((a @ a.transpose(1, 2)).double() + 1e-4 * torch.eye(64))
    of = bank["init.classes"].long()
    centred = bank["init.draws"].reshape(-1, 64, 1).double() - mean[of].double()[..., None]
    z = torch.linalg.solve_triangular(factor[of], centred, upper=False)
    say(f"bank.safetensors: mean of {z.numel()} whitened values", abs(float(z.mean())), 0.025)
    say("bank.safetensors: their variance less 1", abs(float(z.var()) - 1), 0.04)
    run("sample", "-q", "-m", "bank.safetensors", "-o", "s.npz", "--n", "20", "--steps", "1")
    # Saved again by PyTorch, and read again.
    torch.save({"model_state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, folder / "again.pt")
    run("convert", "again.pt", "again.safetensors", "--image-size", "8", "8")
    run("predict", "-m", "again.safetensors", "-i", "d.npz", "-o", "again.npz")
    a, b = np.load(folder / "again.npz")["logits"], np.load(folder / "run.npz")["logits"]
    say("again.pt, of torch.save with names of data-parallel training: bits", float(not np.array_equal(a, b)), 0.0)
    print("all is well" if not failed else f"{len(failed)} failed: {failed}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
