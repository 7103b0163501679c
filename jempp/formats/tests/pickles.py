# coding: utf-8
"""Pickles that the tests read. Run in this folder by each Python and NumPy whose pickles are wanted:

    python3 pickles.py numpy2        # NumPy 2.4, which writes the plain values too
    python3 pickles.py numpy1        # NumPy 1.26
    python2.7 pickles.py python2     # NumPy 1.16
"""

import collections
import os
import pickle
import sys

import numpy as np

if sys.version_info[0] == 2:
    import cPickle as pickle


def values():
    shared = ["shared"]
    return {
        "none": None,
        "bools": (True, False),
        "ints": [0, 1, -1, 255, 65535, -(2**31), 2**40, 2**63 - 1, -(2**63), 2**63, -(2**100)],
        "floats": [0.0, -1.5, 1e300, float("inf")],
        "text": u"Zürich \U0001f600 \\u \n 'x'",
        "bytes": bytes(range(256)),
        "empty": [b"", "", (), [], {}, set(), frozenset()],
        "array": bytearray(b"xyz"),
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "set": {7},
        "frozen": frozenset([8]),
        "twice": [shared, shared],
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "long": list(range(2000)),
        "class": collections.OrderedDict,
        "complex": complex(1, -2),
    }


def arrays():
    return {
        "u1": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "high": np.arange(250, 256, dtype=np.uint8),
        "f": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "big": np.array([1.5, -2.0], dtype=">f8"),
        "bool": np.array([True, False]),
        "scalar": np.int64(-5),
        "labels": [np.uint8(3), np.int64(4), 5],
    }


def write(name, value, protocol):
    with open(os.path.join("pickle", "%s-%d.pkl" % (name, protocol)), "wb") as file:
        pickle.dump(value, file, protocol)


def main(name):
    if not os.path.isdir("pickle"):
        os.mkdir("pickle")
    if name == "python2":
        pixels = np.arange(2 * 3072, dtype=np.int64) * 7 % 251
        batch = {"data": pixels.astype(np.uint8).reshape(2, 3072), "labels": [3, 9], "batch_label": "training batch"}
        write("cifar", batch, 2)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        write(name, arrays(), protocol)
        if name == "numpy2":
            write("values", values(), protocol)


if __name__ == "__main__":
    main(sys.argv[1])
