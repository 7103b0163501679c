"""What the tests share: a model trained for a moment, made once, and a second process to run code in."""
import atexit
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

import jempp

FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="jempp-tests-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


@functools.cache
def run():
    """A run of two epochs on the digits."""
    return jempp.train("train.epochs=2", out=FOLDER / "run", seed=1)


@functools.cache
def model():
    """Its model."""
    return run().model


@functools.cache
def digits(n=64, seed=0):
    """Images of random bytes, n x 8 x 8 x 1."""
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 1)).astype(np.uint8)


def floats(n=64, seed=0):
    """The same images as the network's inputs."""
    return (digits(n, seed).astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


def colour():
    """A model of 6 x 10 x 3 images, so that no two axes have the same size."""
    config = {"model.image_size": [6, 10, 3], "model.classes": 7, "train.batch_size": 4, "train.schedule": "constant", "sampler.init": "uniform"}
    with jempp.Trainer({"preset": "jempp", "model.depth": 10, "model.widen_factor": 1, **config}) as trainer:
        return trainer.model()


def interrupted(code, after="started", wait=0.5, folder=FOLDER):
    """Runs code, sends Ctrl-C half a second after it has printed `after`; returns the seconds until it said `heard`, and
    the rest of what it printed."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)
    lines = []
    try:
        for line in process.stdout:
            if line.strip() == after:
                break
        time.sleep(wait)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        line = next((line for line in process.stdout if line.strip() == "heard"), "")
        seconds = time.monotonic() - sent
        lines = [line, *process.stdout]
        errors = process.stderr.read()
        assert process.wait() == 0, errors
        assert errors == "", errors
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    return seconds, "".join(lines).split()


def cpu_allows(seconds):
    """A time limit, widened where other work keeps the cores busy: the load of a minute by core."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
