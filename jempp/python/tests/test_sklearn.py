"""A model as a classifier of scikit-learn. Skipped where there is none (peers/run.sh has it)."""
import pickle
import unittest

import numpy as np

try:
    from sklearn.base import clone
    from sklearn.datasets import load_digits

    from jempp.sklearn import Classifier
except ImportError as e:
    raise unittest.SkipTest(f"no scikit-learn: {e}") from e


class Digits(unittest.TestCase):
    def test_fit_predict_clone_and_pickle(self):
        X, y = load_digits(return_X_y=True)
        X, names = X / 16, np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[y]
        template = Classifier(image_shape=(8, 8, 1), config={"train.epochs": 4}, seed=1)
        fitted = clone(template).fit(X[:1500], names[:1500])
        self.assertGreater(fitted.score(X[1500:], names[1500:]), 0.8)
        self.assertEqual(set(fitted.predict(X[1500:])), set(names))
        p = fitted.predict_proba(X[1500:])
        np.testing.assert_array_equal(fitted.classes_[p.argmax(1)], fitted.predict(X[1500:]))
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.predict_proba(X[1500:].reshape(-1, 8, 8, 1)), p)
        noise = np.random.default_rng(0).uniform(0, 1, (100, 64))
        self.assertGreater(fitted.score_samples(X[1500:]).mean(), fitted.score_samples(noise).mean())
        with self.assertRaisesRegex(ValueError, "outside 0..1"):
            fitted.predict(X * 16)
        with self.assertRaises(ValueError):
            template.predict(X)


if __name__ == "__main__":
    unittest.main()
