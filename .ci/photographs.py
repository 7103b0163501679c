#!/usr/bin/env python3
"""Makes 200 small photographs of 4 classes in the folder given: train/CLASS/*.png and test/CLASS/*.png, 24×24, in colour.

They are drawn (sky, ground and something between, in changing light, with grain), and need no library."""
import os
import random
import struct
import sys
import zlib

SIDE = 24


def png(path, pixels):
    """Writes SIDE×SIDE rows of (r, g, b)."""
    raw = b"".join(b"\0" + bytes(v for p in row for v in p) for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def photograph(kind, rng):
    light, horizon = rng.uniform(0.6, 1.0), rng.randint(9, 15)
    sky = {"desert": (150, 190, 235), "forest": (170, 200, 210), "harbour": (120, 150, 190), "night": (12, 14, 40)}[kind]
    ground = {"desert": (215, 180, 110), "forest": (40, 95, 40), "harbour": (35, 75, 110), "night": (30, 28, 30)}[kind]
    place = rng.randint(4, SIDE - 5)

    def pixel(x, y):
        colour = list(sky if y < horizon else ground)
        if kind == "forest" and abs(y - horizon) < 6 and (x + place) % 5 < 2:
            colour = [60, 45, 30]
        if kind == "harbour" and abs(x - place) < 1 and y < horizon + 2:
            colour = [240, 240, 235]
        if kind == "night" and y < horizon and rng.random() < 0.03:
            colour = [250, 250, 200]
        if kind == "desert" and (x - place) ** 2 + (y - 5) ** 2 < 9:
            colour = [255, 240, 170]
        return tuple(max(0, min(255, int(c * light + rng.gauss(0, 9)))) for c in colour)

    return [[pixel(x, y) for x in range(SIDE)] for y in range(SIDE)]


def main(folder):
    rng = random.Random(7)
    for kind in ("desert", "forest", "harbour", "night"):
        for part, n in (("train", 40), ("test", 10)):
            where = os.path.join(folder, part, kind)
            os.makedirs(where)
            for i in range(n):
                png(os.path.join(where, f"{i:03}.png"), photograph(kind, rng))


main(sys.argv[1])
