#!/usr/bin/env python3
"""Writes the torch.save files that the tests read, into jempp/tests/torch.

    venv/bin/python make_torch.py        # torch; made with 2.15.0

`values.pt` and `values_legacy.pt` hold one dict of tensors in the two formats; element i of a tensor is a function of
i, so that a test knows every value: floats 0.25·i − 1, integers 3·i − 5 (bytes and booleans: i mod 2). `mean.pt` and
`cov.pt` are means and covariances of two classes of 3 values.
"""
import pathlib

import torch

OUT = pathlib.Path(__file__).resolve().parents[2] / "jempp" / "tests" / "data" / "torch"


def floats(*shape, dtype=torch.float32):
    n = int(torch.tensor(shape).prod()) if shape else 1
    return (0.25 * torch.arange(n, dtype=torch.float64) - 1).to(dtype).reshape(shape)


def ints(*shape, dtype):
    n = int(torch.tensor(shape).prod()) if shape else 1
    return (3 * torch.arange(n, dtype=torch.int64) - 5).to(dtype).reshape(shape)


def values():
    big = floats(4, 6)
    return {
        "f32": floats(2, 3),
        "f64": floats(3, 2, dtype=torch.float64),
        "f16": floats(5, dtype=torch.float16),
        "bf16": floats(5, dtype=torch.bfloat16),
        "i64": ints(4, dtype=torch.int64),
        "i32": ints(4, dtype=torch.int32),
        "i16": ints(4, dtype=torch.int16),
        "i8": ints(4, dtype=torch.int8),
        "u8": torch.tensor([0, 1, 0], dtype=torch.uint8),
        "bool": torch.tensor([False, True, False]),
        "scalar": torch.tensor(7.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(floats(2, 2)),
        # Views: the whole storage is saved.
        "transposed": big.t(),
        "rows": big[1:3],
        "column": big[:, 4],
        "channels_last": floats(2, 3, 2, 2).to(memory_format=torch.channels_last),
    }


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.save(values(), OUT / "values.pt")
    torch.save(values(), OUT / "values_legacy.pt", _use_new_zipfile_serialization=False)
    mean = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.5, -0.5]])
    a = torch.tensor([[[0.2, 0.0, 0.0], [0.1, 0.2, 0.0], [0.0, 0.1, 0.1]], [[0.1, 0.0, 0.0], [0.0, 0.3, 0.0], [0.1, 0.0, 0.2]]])
    torch.save(mean, OUT / "mean.pt")
    torch.save(a @ a.transpose(1, 2), OUT / "cov.pt")


if __name__ == "__main__":
    main()
