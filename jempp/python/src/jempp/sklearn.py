"""A jempp model as a classifier of scikit-learn."""
from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from . import _arrays
from .cli import train
from .model import Model, load


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trains JEM++ on images, or with preset="softmax" the network alone, and predicts.

    `image_shape` is the height, width and channels of an image; X may then be rows of H*W*C values, as scikit-learn has
    them, or images. `scale` is the range of their values (see `jempp.Model`). Classes may be any labels. `config` is the
    configuration of `jempp.train`, such as {"train.epochs": 20}. Training is on bytes: it rounds values to 256 levels.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        preset: str = "digits",
        config: Optional[Mapping[str, Any]] = None,
        scale: _arrays.Scale = "0..1",
        seed: int = 0,
        device: str = "auto",
        threads: int = 0,
    ):
        self.image_shape = image_shape
        self.preset = preset
        self.config = config
        self.scale = scale
        self.seed = seed
        self.device = device
        self.threads = threads

    def _images(self, X: Any) -> npt.NDArray[np.float32]:
        array = np.asarray(X)
        if array.ndim == 2 and array.shape[1] == np.prod(self.image_shape):
            array = array.reshape(-1, *self.image_shape)
        return _arrays.images(array, self.image_shape, scale=self.scale, name="X").values

    def fit(self, X: Any, y: Any) -> "Classifier":
        """Trains on the images X and their classes y."""
        images = self._images(X)
        self.classes_, labels = np.unique(np.asarray(y), return_inverse=True)
        if len(labels) != len(images) or len(self.classes_) < 2:
            raise ValueError(f"{len(images)} images, {len(labels)} labels of {len(self.classes_)} classes: two classes are needed, and a label for each image")
        with tempfile.TemporaryDirectory() as folder:
            # The program trains on the part `train` of a data set, and evaluates on `test`, which must not be empty.
            data, out = os.path.join(folder, "data"), os.path.join(folder, "run")
            os.mkdir(data)
            pixels, labels = _arrays.to_uint8(images), labels.astype(np.int64)
            np.savez(os.path.join(data, "train.npz"), images=pixels, labels=labels)
            np.savez(os.path.join(data, "test.npz"), images=pixels[:64], labels=labels[:64])
            config = {"preset": self.preset, "data.dataset": data, **(self.config or {})}
            run = train(config=config, out=out, seed=self.seed, device=self.device, threads=self.threads, progress=False)
            with load(run.path, device=self.device, threads=self.threads) as model:
                saved = os.path.join(folder, "model.safetensors")
                model.save(saved)
            with open(saved, "rb") as file:
                self.model_bytes_ = file.read()
        self.n_features_in_ = int(np.prod(self.image_shape))
        self._loaded: Optional[Model] = None
        return self

    @property
    def model_(self) -> Model:
        """The trained model."""
        check_is_fitted(self, "model_bytes_")
        if self._loaded is None:
            from .model import loads

            self._loaded = loads(self.model_bytes_, device=self.device, threads=self.threads)
        return self._loaded

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """p(y|x), n x classes, in the order of `classes_`."""
        model = self.model_
        return model.predict_proba(self._images(X))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The most probable class of each image."""
        chosen = self.predict_proba(X).argmax(axis=1)
        return self.classes_[chosen]  # type: ignore[no-any-return]

    def score_samples(self, X: Any) -> npt.NDArray[np.float32]:
        """Unnormalised log p(x), n values."""
        model = self.model_
        return model.log_density(self._images(X))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state["_loaded"] = None  # It is made again of its bytes.
        return state
