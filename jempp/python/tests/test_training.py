"""Trainers, runs by the program, and their folders."""
import unittest

import numpy as np
from common import FOLDER, cpu_allows, digits, floats, interrupted, run

import jempp
from jempp import _toml, cli

SMALL = {"preset": "digits", "train": {"batch_size": 4}, "sampler": {"outer_steps": 1, "buffer_size": 20}, "eval.recalibration_batches": 1}


class Stepwise(unittest.TestCase):
    def test_steps_save_and_resume(self):
        x, y = floats(4), [0, 1, 2, 3]
        with jempp.Trainer(SMALL, seed=3) as trainer:
            first = trainer.step(x, digits(4), y)
            self.assertEqual((first.step, first.accuracy in (0, 0.25, 0.5, 0.75, 1)), (1, True))
            self.assertAlmostEqual(first.gap, first.log_density_data - first.log_density_chain)
            second, chains = trainer.step(x.transpose(0, 3, 1, 2), x, y, return_chains=True, chain_start=x)
            self.assertEqual((second.step, chains.shape), (2, (4, 8, 8, 1)))
            trainer.save(FOLDER / "trainer")
            third = trainer.step(x, x, y)
            model = trainer.model()
        with jempp.Trainer.resume(FOLDER / "trainer") as again:
            self.assertEqual(again.step(x, x, y), third)
            np.testing.assert_array_equal(again.model().logits(x), model.logits(x))
        with self.assertRaisesRegex(ValueError, "the trainer is closed"):
            again.step(x, x, y)

    def test_images_of_the_host_and_warm_start(self):
        network = {"depth": 10, "widen_factor": 1, "image_size": [8, 8, 1], "classes": 10}
        train = {"batch_size": 4, "schedule": "constant"}
        config = {"preset": "jempp", "model": network, "train": train, "sampler": {"outer_steps": 1, "buffer_size": 20}}
        with jempp.Trainer(config) as trainer:
            with self.assertRaisesRegex(ValueError, "without a data set the chains' starts"):
                trainer.step(floats(4), floats(4), [0, 1, 2, 3])
            trainer.set_init_images(floats(60), np.arange(60) % 10)
            trainer.step(floats(4), floats(4), [0, 1, 2, 3])
            self.assertEqual(trainer.model().sample(2, steps=1).shape, (2, 8, 8, 1))

    def test_configurations(self):
        for config in (SMALL, "preset = 'digits'\n[train]\nbatch_size = 4\n"):
            jempp.Trainer(config).close()
        path = FOLDER / "config.toml"
        path.write_text("preset = 'digits'\n")
        jempp.Trainer(path).close()
        for config, text in [
            ({"preset": "digits", "train.learning_rat": 1}, "train.l"),
            ({"preset": "digits", "train": {"lr": "fast"}}, "train.lr"),
            ({"a b": 1}, "letters, digits"),
            ({"train.lr": 1, "train": {"lr": 2}}, "given twice"),
            ({"train.lr": object()}, "use numbers"),
        ]:
            with self.subTest(text), self.assertRaisesRegex(ValueError, text):
                jempp.Trainer(config)
        self.assertEqual(_toml.value([1, True, 0.5, 'a"b', np.float64(2)]), '[1, true, 0.5, "a\\"b", 2.0]')

    def test_wrong_batches(self):
        with jempp.Trainer(SMALL) as trainer:
            for data, labelled, y, text in [
                (floats(3), floats(4), [0] * 4, "4"),
                (floats(4), floats(4), [0] * 3, "4 labels are needed"),
                (floats(4), floats(4), [0, 0, 0, 10], "label 10"),
                (digits(4).astype(np.float32), floats(4), [0] * 4, "x_data: values from"),
            ]:
                with self.subTest(text), self.assertRaisesRegex(ValueError, text):
                    trainer.step(data, labelled, y)


class Runs(unittest.TestCase):
    def test_what_a_run_holds(self):
        r = run()
        self.assertEqual(r.config["train"]["epochs"], 2)
        m = r.metrics
        self.assertEqual(int(m["step"][-1]), 44)
        self.assertEqual({v.shape for v in m.values()}, {m["step"].shape})
        np.testing.assert_allclose(m["gap"], m["log_density_data"] - m["log_density_chain"], rtol=1e-12, atol=1e-12)
        self.assertEqual(r.result["iterations"], 44)
        self.assertTrue(r.samples and r.plots and all(p.exists() for p in r.samples))
        self.assertIn("data:image/png;base64,", r._repr_html_())
        with self.assertRaises(FileNotFoundError):
            jempp.Run(FOLDER / "nowhere")

    def test_progress_and_configuration(self):
        seen = []
        out = FOLDER / "progress"
        r = jempp.train("train.lr=0.05", config={"preset": "digits", "train": {"epochs": 1}}, out=out, train={"batch_size": 128}, progress=seen.append, threads=1)
        self.assertEqual((r.config["train"]["lr"], r.config["train"]["batch_size"]), (0.05, 128))
        self.assertEqual(seen[-1]["step"], seen[-1]["of"])

    def test_failures(self):
        for kind, text, work in [
            (ValueError, "train.lr", lambda: jempp.train("train.lrr=1", out=FOLDER / "no")),
            (ValueError, "nowhere", lambda: jempp.train("data.dataset=nowhere", out=FOLDER / "no")),
            (Exception, "exist", lambda: jempp.train(out=run().path)),
            (jempp.DeviceError, "cuda:7", lambda: jempp.train(device="cuda:7", out=FOLDER / "no")),
        ]:
            with self.subTest(text), self.assertRaisesRegex(kind, text):
                work()

    def test_interrupted_and_resumed(self):
        out = FOLDER / "stopped"
        code = (
            f"import jempp\ntry:\n    jempp.train('train.epochs=500', out={str(out)!r}, progress=lambda m: print('started', flush=True))\n"
            "except KeyboardInterrupt:\n    print('heard')\n"
        )
        seconds, said = interrupted(code)
        self.assertEqual(said, ["heard"])
        self.assertLess(seconds, cpu_allows(1.0))
        done = max(int(p.name.removeprefix("step_")) for p in (out / "ckpt").glob("step_*"))
        epochs = done // 22 + 2
        r = jempp.train(f"train.epochs={epochs}", resume=out)
        self.assertEqual(r.result["iterations"], epochs * 22)

    def test_interrupted_step(self):
        code = (
            "import jempp, numpy as np\n"
            "t = jempp.Trainer({'preset': 'digits', 'sampler.outer_steps': 200})\n"
            "x, y = np.zeros((64, 8, 8, 1), np.float32), np.zeros(64, int)\n"
            "t.step(x, x, y)\n"
            "try:\n    print('started', flush=True)\n    while True: t.step(x, x, y)\n"
            "except KeyboardInterrupt:\n    print('heard', flush=True)\n"
            "print(t.step(x, x, y).step > 1)\n"
        )
        seconds, said = interrupted(code)
        self.assertEqual(said, ["heard", "True"])
        self.assertLess(seconds, cpu_allows(1.0))

    def test_the_program_is_the_wheels(self):
        import subprocess

        said = subprocess.run([cli.executable(), "--version"], capture_output=True, text=True, check=True).stdout
        self.assertEqual(said.split(), ["jempp-cli", jempp.__version__])


if __name__ == "__main__":
    unittest.main()
