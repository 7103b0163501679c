"""Configurations as TOML."""
from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any


def text(config: "Mapping[str, Any] | str | os.PathLike[str] | None") -> str:
    """The configuration as a TOML document.

    A mapping may be nested ({"train": {"lr": 0.1}}) or have dotted keys ({"train.lr": 0.1}). A string is a document if it
    has a line break or an `=`, and otherwise the path of one.
    """
    if config is None:
        return ""
    if isinstance(config, Mapping):
        return "".join(f"{key} = {value(v)}\n" for key, v in flat(config).items())
    if isinstance(config, str) and ("\n" in config or "=" in config or not config.strip()):
        return config
    with open(config, encoding="utf-8") as file:
        return file.read()


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    out: dict[str, Any] = {}
    for key, v in config.items():
        if not isinstance(key, str) or not key.replace(".", "").replace("_", "").isalnum():
            raise ValueError(f"configuration key {prefix}{key!r}: use names of letters, digits, _ and dots")
        inner = flat(v, f"{prefix}{key}.") if isinstance(v, Mapping) else {prefix + key: v}
        for name, w in inner.items():
            if name in out:
                raise ValueError(f"configuration key {name} is given twice")
            out[name] = w
    return out


def value(v: Any) -> str:
    """A value in TOML's notation."""
    if hasattr(v, "item") and getattr(v, "ndim", None) == 0:
        v = v.item()  # a scalar of NumPy or PyTorch
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, int):
        return str(v)
    if isinstance(v, float):
        # TOML requires a digit on both sides of the point, or an exponent.
        return repr(v)
    if isinstance(v, (str, os.PathLike)):
        return json.dumps(os.fspath(v), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(v, Mapping):
        return "{" + ", ".join(f"{key} = {value(w)}" for key, w in flat(v).items()) + "}"
    if isinstance(v, Sequence):
        return "[" + ", ".join(value(w) for w in v) + "]"
    raise ValueError(f"configuration value {v!r}: use numbers, strings, booleans, lists and dicts")
