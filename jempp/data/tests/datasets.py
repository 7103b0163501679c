"""Small data sets in every form that is read, for the tests: python3 datasets.py (NumPy, SciPy, Pillow).

Values follow a formula that the tests repeat, so that only what PIL computes is stored as expected values.
"""

import gzip
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import scipy.io
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "sets")


def images(start, n, h=32, w=32, c=3):
    """N×H×W×C."""
    i, y, x, k = np.meshgrid(np.arange(start, start + n), np.arange(h), np.arange(w), np.arange(c), indexing="ij")
    return ((i * 31 + y * y * 7 + x * x * 5 + y * x * 3 + k * 101) % 251).astype(np.uint8)


def labels(start, n, classes):
    return (np.arange(start, start + n) * 21 + 8) % classes


def path(*parts):
    full = os.path.join(ROOT, *parts)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    return full


def tar(name, files):
    """A .tar.gz that is the same each time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, data in files:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with open(path(name), "wb") as file:
        file.write(gzip.compress(out.getvalue(), mtime=0))


def planes(x):
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def records(start, n, hundred):
    first = [labels(start, n, 20), labels(start, n, 100)] if hundred else [labels(start, n, 10)]
    columns = [y.astype(np.uint8)[:, None] for y in first] + [planes(images(start, n))]
    return np.concatenate(columns, axis=1).tobytes()


def batch(start, n, hundred, protocol):
    value = {"data": planes(images(start, n)), "filenames": ["%d.png" % i for i in range(n)], "batch_label": "b"}
    if hundred:
        value["fine_labels"] = labels(start, n, 100).tolist()
        value["coarse_labels"] = labels(start, n, 20).tolist()
    else:
        # As lists of numbers and as lists of NumPy's numbers.
        value["labels"] = labels(start, n, 10).tolist() if protocol % 2 else list(labels(start, n, 10))
    return pickle.dumps(value, protocol)


def cifar():
    folder = "cifar-10-batches-bin/"
    # In no particular order, as in the published archive.
    order = [4, 1, 5, 3, 2]
    names = "\n".join("class%d" % i for i in range(10)) + "\n\n"
    files = [(folder + "data_batch_%d.bin" % b, records(2 * b - 2, 2, False)) for b in order]
    files.insert(2, (folder + "test_batch.bin", records(10, 3, False)))
    tar("cifar-10-binary.tar.gz", files + [(folder + "batches.meta.txt", names.encode()), (folder + "readme.html", b"x")])
    folder = "cifar-10-batches-py/"
    files = [(folder + "data_batch_%d" % b, batch(2 * b - 2, 2, False, b)) for b in order]
    files.append((folder + "test_batch", batch(10, 3, False, 2)))
    meta = pickle.dumps({"label_names": ["class%d" % i for i in range(10)], "num_vis": 3072}, 2)
    tar("cifar-10-python.tar.gz", files + [(folder + "batches.meta", meta)])
    files = [("train.bin", records(0, 4, True)), ("test.bin", records(4, 2, True))]
    files += [("fine_label_names.txt", "\n".join("fine%d" % i for i in range(100)).encode())]
    files += [("coarse_label_names.txt", "\n".join("coarse%d" % i for i in range(20)).encode())]
    for name, data in files:
        with open(path("cifar-100-binary", name), "wb") as file:
            file.write(data)
    files = [("cifar-100-python/train", batch(0, 4, True, 2)), ("cifar-100-python/test", batch(4, 2, True, 4))]
    tar("cifar-100-python.tar.gz", files)


def big_endian(arrays):
    """A MATLAB file as a big-endian machine writes it; SciPy can only read those."""
    out = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI"

    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + b"\0" * (-len(data) % 8)

    for name, a in arrays.items():
        kind, cls = {"uint8": (2, 9), "int16": (3, 10)}[a.dtype.name]
        body = element(6, struct.pack(">II", cls, 0)) + element(5, struct.pack(">%di" % a.ndim, *a.shape))
        body += element(1, name.encode()) + element(kind, a.astype(a.dtype.newbyteorder(">")).tobytes("F"))
        out += element(14, body)
    return out


def svhn():
    def arrays(start, n, dtype=np.uint8):
        y = labels(start, n, 10)
        return {"X": images(start, n).transpose(1, 2, 3, 0), "y": np.where(y == 0, 10, y).astype(dtype)[:, None]}

    scipy.io.savemat(path("svhn", "train_32x32.mat"), arrays(0, 5), do_compression=True)
    scipy.io.savemat(path("svhn", "test_32x32.mat"), {"other": "text", **arrays(5, 3, np.float64)})
    scipy.io.savemat(path("svhn", "extra_32x32.mat"), arrays(8, 2), do_compression=True)
    with open(path("svhn-big", "train_32x32.mat"), "wb") as file:
        file.write(big_endian(arrays(0, 2, np.int16)))
    scipy.io.savemat(path("svhn-big", "test_32x32.mat"), arrays(2, 1))
    read = scipy.io.loadmat(path("svhn-big", "train_32x32.mat"))
    assert all((read[k] == v).all() for k, v in arrays(0, 2, np.int16).items())


def mnist():
    for name, start, n, pack in [("train", 0, 6, True), ("t10k", 6, 4, False)]:
        x = images(start, n, 28, 28, 1)
        files = [
            ("%s-images-idx3-ubyte" % name, struct.pack(">4I", 0x803, n, 28, 28) + x.tobytes()),
            ("%s-labels-idx1-ubyte" % name, struct.pack(">2I", 0x801, n) + labels(start, n, 10).astype(np.uint8).tobytes()),
        ]
        for file, data in files:
            with open(path("mnist", file + (".gz" if pack else "")), "wb") as out:
                out.write(gzip.compress(data, mtime=0) if pack else data)


def npz():
    x, y = images(0, 11, 6, 5), labels(0, 11, 4)
    np.savez_compressed(path("plain.npz"), images=x, labels=y)
    np.savez(path("keras.npz"), x_train=x[:7, :, :, 0], y_train=y[:7], x_test=np.asfortranarray(x[7:, :, :, 0]), y_test=y[7:])
    np.savez(
        path("med.npz"),
        train_images=x[:5],
        train_labels=y[:5, None].astype(np.uint8),
        val_images=x[5:8],
        val_labels=y[5:8, None].astype(np.uint8),
        test_images=x[8:],
        test_labels=y[8:, None].astype(np.uint8),
    )
    np.savez(path("pair", "train.npz"), images=x[:7], labels=y[:7])
    np.savez(path("pair", "test.npz"), images=x[7:], labels=y[7:])


def whole(image):
    """As torchvision's Resize(32): the shorter side becomes 32."""
    w, h = image.size
    size = (32, int(32 * h / w)) if w < h else (int(32 * w / h), 32)
    return np.asarray(image.resize(size, Image.BILINEAR))


def square(image):
    """As torchvision's CenterCrop to the shorter side, then Resize(32)."""
    w, h = image.size
    s = min(w, h)
    left, top = int(round((w - s) / 2.0)), int(round((h - s) / 2.0))
    return whole(image.crop((left, top, left + s, top + s)))


def celeba():
    n, h, w = 7, 73, 60
    y, x = np.mgrid[:h, :w]
    pictures = []
    for i in range(n):
        waves = [127 + 90 * np.sin(x / (5 + k) + i) + 37 * np.cos(y / (3 + i) - k) for k in range(3)]
        pictures.append(Image.fromarray(np.stack(waves, axis=2).astype(np.uint8)))
        name = path("celeba", "img_align_celeba", "%06d.png" % (i + 1))
        pictures[i].save(name, optimize=True)
    with open(path("celeba", "list_attr_celeba.txt"), "w") as file:
        file.write("%d\nMale Smiling Young \n" % n)
        for i in range(n):
            file.write("%06d.jpg %2d %2d %2d\n" % (i + 1, 1, 1 if i % 3 == 0 else -1, -1))
    with open(path("celeba", "list_eval_partition.txt"), "w") as file:
        for i, part in enumerate([2, 0, 0, 1, 0, 2, 0]):
            file.write("%06d.jpg %d\n" % (i + 1, part))
    full = Image.fromarray(images(0, 1, 218, 178)[0])
    np.savez_compressed(
        path("celeba-expected.npz"),
        square=np.stack([square(p) for p in pictures]),
        whole=np.stack([whole(p) for p in pictures]),
        full=whole(full)[None],
        up=np.asarray(Image.fromarray(images(0, 1, 20, 17)[0]).resize((40, 31), Image.BILINEAR))[None],
    )


def pictures():
    """Files of one smooth image, 7×9, in what PIL writes of PNG, JPEG and GIF; what PIL reads out of some."""
    y, x = np.meshgrid(np.arange(7), np.arange(9), indexing="ij")
    rgb = Image.fromarray(np.stack([20 + 25 * x, 230 - 30 * y, 10 * (x + y)], axis=2).astype(np.uint8))
    grey, palette = rgb.convert("L"), rgb.quantize(16)
    here = lambda name: path("..", "pictures", name)
    grey.save(here("grey.png"))
    rgb.save(here("rgb.png"))
    palette.save(here("palette.png"))
    rgb.convert("1").save(here("bits.png"))
    rgb.convert("RGBA").save(here("opaque.png"), icc_profile=bytes(range(256)) * 4)
    palette.save(here("palette.gif"))
    jpegs = {
        "grey": (grey, {}),
        "full": (rgb, {"subsampling": "4:4:4"}),
        "half": (rgb, {"subsampling": "4:2:0"}),
        "progressive": (rgb, {"progressive": True}),
    }
    for name, (image, options) in jpegs.items():
        image.save(here(name + ".jpg"), quality=90, **options)
    names = ["palette.png"] + [name + ".jpg" for name in jpegs]
    read = {name: np.asarray(Image.open(here(name)).convert("RGB")) for name in names}
    np.savez_compressed(here("read.npz"), **read)


if __name__ == "__main__":
    cifar()
    svhn()
    mnist()
    npz()
    celeba()
    pictures()
