"""A model as a PyTorch module. Skipped where there is no PyTorch (peers/run.sh has it)."""
import unittest

import numpy as np
from common import colour, floats, model

try:
    import torch

    import jempp.torch
except ImportError as e:
    raise unittest.SkipTest(f"no PyTorch: {e}") from e


class Module(unittest.TestCase):
    def test_same_bits_from_tensors(self):
        m, x = colour(), np.random.default_rng(3).uniform(-1, 1, (5, 6, 10, 3)).astype(np.float32)
        nchw = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        want = m.logits(x)
        for form in (nchw, nchw.double(), nchw.to(memory_format=torch.channels_last), torch.from_numpy(x)):
            np.testing.assert_array_equal(m.logits(form), want)
        np.testing.assert_array_equal(jempp.torch.as_module(m)(nchw).numpy(), want)
        with self.assertRaisesRegex(ValueError, "requires a gradient"):
            m.logits(nchw.requires_grad_())

    def test_gradients(self):
        x = torch.from_numpy(floats(6).transpose(0, 3, 1, 2).copy()).requires_grad_()
        y = torch.arange(6)
        module = jempp.torch.as_module(model())
        g, = torch.autograd.grad(module(x)[range(6), y].sum(), x)
        np.testing.assert_allclose(g, model().input_grad(floats(6).transpose(0, 3, 1, 2), y), rtol=1e-5, atol=1e-6)
        density = jempp.torch.as_module(model(), output="log_density")
        weights = torch.tensor([1.0, 2, 3, 4, 5, 6])
        d, = torch.autograd.grad((density(x) * weights).sum(), x)
        want = model().input_grad(floats(6).transpose(0, 3, 1, 2)) * weights.numpy().reshape(-1, 1, 1, 1)
        np.testing.assert_array_equal(d, want)
        # Without an energy head, log p(x) is the logsumexp of the logits.
        by_logits, = torch.autograd.grad((module(x).logsumexp(1) * weights).sum(), x)
        np.testing.assert_allclose(by_logits, d, rtol=1e-3, atol=1e-5)

    def test_bounds_and_their_gradient(self):
        unit = ((torch.from_numpy(floats(4).transpose(0, 3, 1, 2).copy()) + 1) / 2).requires_grad_()
        module = jempp.torch.as_module(model(), bounds=(0, 1))
        inner = ((unit - 0.5) / 0.5).detach().requires_grad_()
        plain = jempp.torch.as_module(model())
        torch.testing.assert_close(module(unit), plain(inner), rtol=0, atol=1e-5)
        a, = torch.autograd.grad(torch.nn.functional.cross_entropy(module(unit), torch.arange(4)), unit)
        b, = torch.autograd.grad(torch.nn.functional.cross_entropy(plain(inner), torch.arange(4)), inner)
        torch.testing.assert_close(a, 2 * b, rtol=1e-4, atol=1e-7)

    def test_what_it_is_not(self):
        module = jempp.torch.as_module(model())
        self.assertEqual((list(module.parameters()), module.training), ([], False))
        for text, work in [
            ("output is 'energy'", lambda: jempp.torch.as_module(model(), output="energy")),
            ("the first must be below", lambda: jempp.torch.as_module(model(), bounds=(1, 0))),
            ("does not fit as NCHW", lambda: module(torch.zeros(2, 8, 8, 1))),
        ]:
            with self.subTest(text), self.assertRaisesRegex(ValueError, text):
                work()
        x = torch.zeros(1, 1, 8, 8, requires_grad=True)
        first, = torch.autograd.grad((module(x) ** 2).sum(), x, create_graph=True)
        with self.assertRaisesRegex(RuntimeError, "once_differentiable"):
            first.sum().backward()


if __name__ == "__main__":
    unittest.main()
