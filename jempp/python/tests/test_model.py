"""Models: what they compute, what they refuse, and how long they live."""
import copy
import logging
import multiprocessing
import os
import pickle
import resource
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from common import FOLDER, cpu_allows, floats, interrupted, model, run

import jempp


class Computed(unittest.TestCase):
    def test_scores_belong_together(self):
        m, x = model(), floats(10)
        logits = m.logits(x)
        lse = np.log(np.exp(logits.astype(np.float64)).sum(1))
        np.testing.assert_allclose(m.log_density(x), lse, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(m.energy(x), -m.log_density(x))
        np.testing.assert_array_equal(m.predict(x), logits.argmax(1))
        np.testing.assert_allclose(m.predict_proba(x).sum(1), 1, rtol=1e-6)
        np.testing.assert_array_equal(m(x), logits)

    def test_gradients_are_those_of_the_values(self):
        m, x = model(), floats(1) * np.float32(0.5)
        for values, gradient in [
            (m.log_density, m.input_grad(x)),
            (lambda v: m.logits(v)[:, 3], m.input_grad(x, 3)),
            (lambda v: m.logits(v)[:, 1] * 2 - m.logits(v)[:, 5], m.logits_vjp(x, np.eye(10)[[1]] * 2 - np.eye(10)[[5]])),
        ]:
            direction = np.sign(gradient)
            h = np.float32(1e-2)
            want = float((values(x + h * direction) - values(x - h * direction))[0] / (2 * h))
            self.assertAlmostEqual(float((gradient * direction).sum()) / want, 1, delta=0.05)

    def test_gradient_of_a_logit_by_either_way(self):
        x = floats(9)
        y = np.arange(9)
        np.testing.assert_allclose(model().logits_vjp(x, np.eye(10)[y]), model().input_grad(x, y), rtol=1e-5, atol=1e-6)

    def test_features_give_the_logits(self):
        x = floats(40)
        f, z = model().features(x), model().logits(x)
        self.assertEqual(f.shape, (40, model().n_features))
        ones = np.hstack([f, np.ones((40, 1))]).astype(np.float64)
        head = np.linalg.lstsq(ones[:40], z, rcond=None)[0]
        self.assertLess(np.linalg.matrix_rank(ones), 65)
        np.testing.assert_allclose(ones @ head, z, atol=1e-3)

    def test_samples(self):
        m = model()
        a, b = m.sample(6, [0, 1, 2, 3, 4, 5], steps=3, seed=5), m.sample(6, [0, 1, 2, 3, 4, 5], steps=3, seed=5)
        np.testing.assert_array_equal(a, b)
        self.assertEqual(a.shape, (6, 8, 8, 1))
        self.assertTrue((abs(a) <= 1).all())
        self.assertTrue((m.sample(6, steps=3, seed=6) != a).any())
        self.assertEqual(m.sample(3, steps=1, as_uint8=True).dtype, np.uint8)
        still = m.sample(4, start=floats(4), steps=2, step_size=0, noise=0)
        np.testing.assert_array_equal(still, floats(4))
        seen = []
        m.sample(2, steps=4, progress=lambda done, of: seen.append((done, of)))
        self.assertEqual(seen, [(1, 4), (2, 4), (3, 4), (4, 4)])

    def test_evaluation_and_thresholds(self):
        m, x = model(), m_samples(400)
        y = m.predict(x)
        wrong = y.copy()
        wrong[:40] = (wrong[:40] + 1) % 10
        e = m.evaluate(x, wrong)
        self.assertEqual((e.n, e.accuracy), (400, 0.9))
        p = m.predict_proba(x).astype(np.float64)
        self.assertAlmostEqual(e.nll, float(-np.log(p[np.arange(400), wrong]).mean()), places=4)
        self.assertAlmostEqual(e.brier, float(((p - np.eye(10)[wrong]) ** 2).sum(1).mean()), places=5)
        fitted = m.fit_thresholds(x, wrong, alpha=0.2, ood_alpha=0.1)
        np.testing.assert_array_equal(fitted.logits(x), m.logits(x))
        d = fitted.decide(x)
        np.testing.assert_array_equal(d.label, y)
        np.testing.assert_array_equal(d.log_density, m.log_density(x))
        self.assertAlmostEqual(float((d.ood_p_value < 0.1).mean()), 0.1, delta=0.02)
        self.assertTrue(d.abstain[d.ood_p_value < 0.1].all())
        fitted.save(FOLDER / "fitted.safetensors")
        again = jempp.load(FOLDER / "fitted.safetensors").decide(x[0])
        self.assertEqual([v.item() for v in again], [v[0].item() for v in d])
        with self.assertRaisesRegex(jempp.FormatError, "no thresholds"):
            m.decide(x)
        with self.assertRaisesRegex(ValueError, "alpha is 1"):
            m.fit_thresholds(x, y, alpha=1)
        with self.assertRaisesRegex(ValueError, "too few"):
            m.fit_thresholds(x[:30], y[:30], alpha=0.01)
        with self.assertRaises(jempp.Cancelled):
            m.evaluate(x, y, progress=lambda done, of: False)

    def test_precision_bf16_on_the_cpu(self):
        m = jempp.load(run().path, precision="bf16")
        np.testing.assert_allclose(m.logits(floats(9)), model().logits(floats(9)), atol=0.3)
        with self.assertRaisesRegex(ValueError, "needs a GPU"):
            jempp.load(run().path, precision="tf32")

    def test_bytes_and_files(self):
        model().save(FOLDER / "saved.safetensors")
        data = (FOLDER / "saved.safetensors").read_bytes()
        for m in (jempp.loads(data), jempp.load(FOLDER / "saved.safetensors"), jempp.load(str(FOLDER / "saved.safetensors"))):
            np.testing.assert_array_equal(m.logits(floats(3)), model().logits(floats(3)))
            self.assertEqual((m.image_shape, m.classes, m.n_parameters), ((8, 8, 1), 10, model().n_parameters))


def m_samples(n):
    """Images that the model knows, in random order: quick chains of all classes."""
    return model().sample(n, np.random.default_rng(1).integers(0, 10, n), steps=3, seed=2)


class Errors(unittest.TestCase):
    def test_statuses(self):
        junk = FOLDER / "junk.safetensors"
        junk.write_bytes(b"junk" * 100)
        for kind, text, work in [
            (FileNotFoundError, "nowhere", lambda: jempp.load(FOLDER / "nowhere")),
            (OSError, "", lambda: model().save(FOLDER / "nowhere/model.safetensors")),
            (jempp.FormatError, "", lambda: jempp.load(junk)),
            (jempp.FormatError, "", lambda: jempp.loads(b"junk")),
            (jempp.DeviceError, "cuda:7", lambda: jempp.load(run().path, device="cuda:7")),
            (ValueError, "use auto, cpu or cuda:N", lambda: jempp.load(run().path, device="gpu")),
            (ValueError, "threads is -1", lambda: jempp.load(run().path, threads=-1)),
            (ValueError, "precision `f16`", lambda: jempp.load(run().path, precision="f16")),
            (ValueError, "NUL", lambda: jempp.load("a\0b")),
            (ValueError, "n is -1", lambda: model().sample(-1)),
            (ValueError, "steps is 0", lambda: model().sample(1, steps=0)),
            (ValueError, "noise is nan", lambda: model().sample(1, noise=float("nan"))),
            (ValueError, "2 images for 3 chains", lambda: model().sample(3, start=floats(2))),
            (jempp.Cancelled, "stopped on request", lambda: model().sample(1, steps=5, progress=lambda done, of: False)),
            (jempp.Cancelled, "cancelled", lambda: model().logits(floats(9), progress=lambda done, of: False)),
            (ZeroDivisionError, "", lambda: model().sample(1, steps=5, progress=lambda done, of: 1 // 0)),
            (TypeError, "cannot be pickled", lambda: pickle.dumps(model())),
            (TypeError, "cannot be pickled", lambda: copy.deepcopy(model())),
        ]:
            with self.subTest(text or kind.__name__), self.assertRaisesRegex(kind, text):
                work()
        self.assertEqual(model().logits(floats(2)).shape, (2, 10))

    def test_a_closed_model(self):
        with jempp.load(run().path) as m:
            m.logits(floats(1))
        m.close()
        self.assertIn("closed", repr(m))
        with self.assertRaisesRegex(ValueError, "the model is closed"):
            m.logits(floats(1))

    def test_messages_go_to_logging(self):
        from jempp import _library

        m = jempp.load(run().path)  # the library is loaded
        with self.assertLogs("jempp", logging.WARNING) as heard:
            _library.library().jempp_log(2, b"something odd", None)
        self.assertEqual(heard.output, ["WARNING:jempp:something odd"])
        m.close()


class Concurrent(unittest.TestCase):
    def test_eight_threads(self):
        x = floats(8, seed=9)
        want = model().logits(x)
        wrong = []

        def many(i):
            for k in range(1000):
                j = (i + k) % 8
                if (model().logits(x[j : j + 1]) != want[j : j + 1]).any():
                    wrong.append((i, k))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(many, range(8)))
        self.assertEqual(wrong, [])

    def test_the_interpreter_runs_beside_a_call(self):
        model().logits(floats(4096, seed=1))
        ticks, stop = [], threading.Event()

        def tick():
            while not stop.is_set():
                ticks.append(time.perf_counter())
                time.sleep(0.001)

        thread = threading.Thread(target=tick)
        thread.start()
        model().sample(256, steps=20)
        stop.set()
        thread.join()
        self.assertGreater(len(ticks), 10)

    def test_fork_is_refused(self):
        model()

        def child(pipe):
            try:
                model().logits(floats(1))
                pipe.send("computed")
            except RuntimeError as e:
                pipe.send(str(e))

        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(theirs,))
        process.start()
        self.assertIn("before the process forked", ours.recv())
        process.join(20)
        self.assertEqual(process.exitcode, 0)

    def test_memory_stays_flat(self):
        path = FOLDER / "flat.safetensors"
        model().save(path)

        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize()

        def load(n):
            for _ in range(n):
                jempp.load(path, threads=1).close()

        load(1000)
        before, threads = resident(), threading.active_count()
        load(9000)
        self.assertLess(resident() - before, 8 << 20)
        self.assertEqual(threading.active_count(), threads)
        self.assertLess(len(os.listdir("/proc/self/task")), 30)


class Interrupted(unittest.TestCase):
    START = f"import jempp, numpy as np\nm = jempp.load({str(run().path)!r})\nx = np.zeros((1, 8, 8, 1), np.float32)\nwant = m.logits(x)\n"
    END = "\nexcept KeyboardInterrupt:\n    print('heard', flush=True)\n    print((m.logits(x) == want).all())\n"

    def heard(self, work):
        seconds, said = interrupted(f"{self.START}try:\n    print('started', flush=True)\n    {work}{self.END}")
        self.assertEqual(said, ["heard", "True"])
        self.assertLess(seconds, cpu_allows(1.0))

    def test_sample(self):
        self.heard("m.sample(256, steps=1000000)")

    def test_sample_with_progress(self):
        self.heard("m.sample(256, steps=1000000, progress=lambda done, of: None)")

    def test_logits(self):
        self.heard("m.logits(np.zeros((3000000, 8, 8, 1), np.float32))")

    def test_evaluate(self):
        self.heard("m.evaluate(np.zeros((3000000, 8, 8, 1), np.float32), 0)")


class Quick(unittest.TestCase):
    def test_import(self):
        """Seconds of the import beside NumPy's, and that it loads nothing else of size."""
        import subprocess
        import sys

        code = (
            "import time, sys, numpy\nt = time.perf_counter()\nimport jempp\nprint(time.perf_counter() - t)\n"
            "print(any(m in sys.modules for m in ('torch', 'sklearn', 'subprocess', 'IPython')))\n"
            "print('libjempp' in open('/proc/self/maps').read())\n"
        )
        said = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() for _ in range(5)]
        self.assertLess(min(float(s[0]) for s in said), cpu_allows(0.05))
        self.assertEqual({tuple(s[1:]) for s in said}, {("False", "False")})

    def test_overhead(self):
        """Microseconds that Python adds to a call of the library on one image."""
        import ctypes

        from jempp import _library

        m, x = model(), floats(1)
        out, handle = np.empty((1, 10), np.float32), m._handle.get()
        function = _library.library().jempp_logits
        bare = lambda: function(handle, x.ctypes.data, 1, out.ctypes.data, 10)  # noqa: E731
        self.assertIsInstance(function, ctypes._CFuncPtr)

        def seconds(call):
            best = np.inf
            for _ in range(20):
                start = time.perf_counter()
                for _ in range(50):
                    call()
                best = min(best, (time.perf_counter() - start) / 50)
            return best

        seconds(bare)
        added = seconds(lambda: m.logits(x)) - seconds(bare)
        self.assertLess(added * 1e6, cpu_allows(30))


if __name__ == "__main__":
    unittest.main()
