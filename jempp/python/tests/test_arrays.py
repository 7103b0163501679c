"""Images in any form give the same bits, and what fits no form is refused with what was found."""
import unittest

import numpy as np
from common import FOLDER, colour, digits, floats, model, run

import jempp
from jempp import cli


class SameBits(unittest.TestCase):
    def test_command_line_and_python(self):
        """`jempp-cli predict`, on an archive of bytes."""
        import subprocess

        given, out = FOLDER / "given.npz", FOLDER / "out.npz"
        np.savez(given, images=digits(30))
        command = [cli.executable(), "predict", "--model", run().path, "--input", given, "--output", out, "--input-grad"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        want, m = np.load(out), model()
        np.testing.assert_array_equal(m.logits(digits(30)), want["logits"])
        np.testing.assert_array_equal(m.log_density(digits(30)), want["log_density"])
        grad = want["input_grad"].reshape(30, 8, 8, 1)
        np.testing.assert_array_equal(m.input_grad(digits(30)), grad)
        np.testing.assert_allclose(m.predict_proba(digits(30)), want["probs"], rtol=1e-6)

    def test_types_and_strides(self):
        m, x = model(), floats(20)
        want = m.logits(x)
        wide = np.zeros((40, 16, 8, 3), np.float32)
        wide[::2, ::2, :, 1:2] = x
        backwards = x[::-1].copy()[::-1]
        unit = digits(20).astype(np.float32) / np.float32(255)
        forms = {
            "uint8": (digits(20), {}),
            "float64": (x.astype(np.float64), {}),
            "big endian": (x.astype(">f4"), {}),
            "strided": (wide[::2, ::2, :, 1:2], {}),
            "backwards": (backwards, {}),
            "NCHW": (x.transpose(0, 3, 1, 2).copy(), {}),
            "without channels": (x[..., 0], {}),
            "0..1": (unit, {"scale": "0..1"}),
            "0..255": (digits(20).astype(np.float64), {"scale": "0..255"}),
            "lists": (x.tolist(), {}),
            "buffer": (memoryview(x), {}),
        }
        for name, (form, options) in forms.items():
            with self.subTest(name):
                np.testing.assert_array_equal(m.logits(form, **options), want)

    def test_array_interfaces(self):
        class Interface:
            def __init__(self, array):
                self.array, self.__array_interface__ = array, array.__array_interface__

        class Capsule:
            """DLPack alone, as of a library that NumPy does not know."""

            def __init__(self, array):
                self.array = array

            def __dlpack__(self, **options):
                return self.array.__dlpack__(**options)

            def __dlpack_device__(self):
                return self.array.__dlpack_device__()

        for wrap in (Interface, Capsule):
            np.testing.assert_array_equal(model().logits(wrap(floats(3))), model().logits(floats(3)))

        class Elsewhere(Capsule):
            def __dlpack_device__(self):
                return 2, 0

        with self.assertRaisesRegex(ValueError, r"on a device .*\.cpu\(\)"):
            model().logits(Elsewhere(floats(3)))

    def test_layouts_of_coloured_images(self):
        m = colour()
        x = np.random.default_rng(3).uniform(-1, 1, (5, 6, 10, 3)).astype(np.float32)
        nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(m.logits(nchw), m.logits(x))
        np.testing.assert_array_equal(m.logits(nchw[0]), m.logits(x)[0])
        g = m.input_grad(x)
        self.assertEqual(m.input_grad(nchw).shape, nchw.shape)
        np.testing.assert_array_equal(m.input_grad(nchw), g.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(m.input_grad(nchw[1], 2), m.input_grad(x, [2] * 5)[1].transpose(2, 0, 1))

    def test_one_image_and_none(self):
        m, x = model(), floats(1)
        self.assertEqual(m.logits(x[0]).shape, (10,))
        self.assertEqual(m.log_density(x[0]).shape, ())
        self.assertEqual(m.input_grad(x[0]).shape, (8, 8, 1))
        self.assertEqual(m.logits(x[:0]).shape, (0, 10))
        self.assertEqual(m.predict(x[:0]).shape, (0,))
        np.testing.assert_array_equal(m.logits(x[0, ..., 0]), m.logits(x)[0])

    def test_no_copy_of_what_fits(self):
        from jempp import _arrays

        x = floats(4)
        self.assertTrue(np.shares_memory(_arrays.images(x, (8, 8, 1)).values, x))
        self.assertTrue(np.shares_memory(_arrays.images(x[..., 0], (8, 8, 1)).values, x))

    def test_batches_and_threads(self):
        x = floats(200, seed=4)
        want = model().logits(x)
        np.testing.assert_array_equal(np.concatenate([model().logits(part) for part in np.array_split(x, 7)]), want)
        np.testing.assert_array_equal(jempp.load(run().path, threads=1).logits(x), want)
        seen = []
        np.testing.assert_array_equal(model().logits(x, progress=lambda done, of: seen.append((done, of))), want)
        self.assertEqual(seen, [(0, 200), (64, 200), (128, 200), (192, 200), (200, 200)])


class Refused(unittest.TestCase):
    def refused(self, text, *arguments, **options):
        with self.assertRaisesRegex(ValueError, text):
            model().logits(*arguments, **options)

    def test_shapes(self):
        self.refused(r"shape \(5, 8, 9, 1\) does not fit; the model takes images of 8x8x1", np.zeros((5, 8, 9, 1), np.float32))
        self.refused(r"shape \(1, 8, 8\) can be read as CHW or NHW; say which", np.zeros((1, 8, 8), np.float32))
        self.assertEqual(model().logits(np.zeros((1, 8, 8), np.float32), layout="NHW").shape, (1, 10))
        self.assertEqual(model().logits(np.zeros((1, 8, 8), np.float32), layout="CHW").shape, (10,))
        self.refused("does not fit as NCHW", floats(2), layout="NCHW")
        self.refused("layout is 'nhwc'", floats(2), layout="nhwc")
        self.refused("inhomogeneous", [[1.0], [1.0, 2.0]])

    def test_values(self):
        x = floats(2)
        self.refused(r"values from -1 to 1, outside 0\.\.1; pass scale='-1\.\.1'", np.linspace(-1, 1, 64).reshape(8, 8), scale="0..1")
        self.refused(r"outside -1\.\.1; pass scale='0\.\.255'", digits(2).astype(np.float32))
        self.refused("rescale them", x * 1000 - 5)
        x[1, 2, 3, 0] = np.nan
        self.refused(r"the value at \(1, 2, 3, 0\) is nan, and 1 in all", x)
        x[1, 2, 3, 0] = np.inf
        self.refused(r"the value at \(1, 2, 3, 0\) is inf", x, scale="unchecked")
        self.refused("scale is '0-1'", floats(2), scale="0-1")
        self.assertEqual(model().logits(floats(2) * 3, scale="unchecked").shape, (2, 10))

    def test_types(self):
        self.refused(r"type int64, values 0 to 0; pass uint8", np.zeros((2, 8, 8, 1), np.int64))
        self.refused("type bool", np.zeros((2, 8, 8, 1), bool))
        self.refused("type complex64", np.zeros((2, 8, 8, 1), np.complex64))

    def test_labels(self):
        x = floats(3)
        for y, text in [
            ([0, 1], r"shape \(2,\); 3 labels are needed"),
            ([0, 1, 10], "label 10 of image 2 is not a class from 0 to 9"),
            ([0, -1, 2], "label -1 of image 1"),
            ([0.0, 1.0, 2.0], "type float64; pass whole numbers"),
        ]:
            with self.assertRaisesRegex(ValueError, text):
                model().input_grad(x, y)
        np.testing.assert_array_equal(model().input_grad(x, 4), model().input_grad(x, np.array([4, 4, 4], np.uint64)))


if __name__ == "__main__":
    unittest.main()
