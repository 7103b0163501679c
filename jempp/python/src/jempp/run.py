"""The folder of a training run, read."""
from __future__ import annotations

import json
import os
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from .model import Model, load


class Run:
    """A run's configuration, metrics, pictures and model. What is read is what the folder held at that moment."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        """The run's folder."""
        if not (self.path / "config.toml").is_file():
            raise FileNotFoundError(f"{self.path}: not a run folder: it holds no config.toml")

    def __repr__(self) -> str:
        return f"<jempp.Run {self.path}>"

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, a dict for each section."""
        return tomllib.loads((self.path / "config.toml").read_text(encoding="utf-8"))

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: steps, epochs, rollbacks and others, told apart by "event"."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        # The last line may be half written.
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines if line]

    @property
    def metrics(self) -> dict[str, npt.NDArray[Any]]:
        """The metrics of the steps that were logged, each an array; NaN where a step has none."""
        steps = [e for e in self.events if e.get("event") == "step"]
        names = sorted({k for e in steps for k, v in e.items() if isinstance(v, (int, float)) or v is None})
        out: dict[str, npt.NDArray[Any]] = {}
        for name in names:
            column = [e.get(name) for e in steps]
            whole = all(isinstance(v, int) for v in column)
            out[name] = np.array([np.nan if v is None else v for v in column], np.int64 if whole else np.float64)
        return out

    @property
    def result(self) -> Optional[dict[str, Any]]:
        """What the run reported at its end (result.json); None while it has not ended."""
        path = self.path / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def samples(self) -> list[Path]:
        """The grids of chains, in the order they were written."""
        return sorted((self.path / "samples").glob("*.png"), key=lambda p: (p.stat().st_mtime_ns, p.name))

    @property
    def plots(self) -> list[Path]:
        """The training curves, as SVG."""
        return sorted((self.path / "plots").glob("*.svg"))

    @cached_property
    def model(self) -> Model:
        """The model of the last checkpoint, loaded on the CPU; `jempp.load(run.path)` takes other devices."""
        return load(self.path)

    def _repr_html_(self) -> str:
        """In a notebook: the last grid of chains."""
        import base64
        import html

        title = f"<p><code>{html.escape(str(self.path))}</code></p>"
        if not self.samples:
            return title
        data = base64.b64encode(self.samples[-1].read_bytes()).decode()
        return f'{title}<img src="data:image/png;base64,{data}" style="image-rendering: pixelated" alt="samples">'
