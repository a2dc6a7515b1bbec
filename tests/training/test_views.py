"""Tests of the views of an image whose probabilities a classifier averages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from scipy.special import softmax

from cifar_exp.config.layers import parse
from cifar_exp.config.schema import Config, ModelConfig, PredictionConfig
from cifar_exp.data import datasets
from cifar_exp.errors import UserError
from cifar_exp.tracking import fingerprint
from cifar_exp.training import models

LAYERS = parse([{"Conv2D": {"filters": 2, "kernel_size": 3}}, "Flatten", {"Dense": {"units": 10}}], "m")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 24, 3)).astype(np.uint8)


def moved(images: npt.NDArray[np.uint8], distance: int) -> npt.NDArray[np.uint8]:
    """Images moved down and right."""
    return ndimage.shift(images, (0, distance, distance, 0), order=0, mode="mirror")


@pytest.mark.parametrize(("flip", "shift"), [(True, 0), (False, 1), (True, 1), (True, 3), (False, 23)])
def test_a_classifier_may_give_the_mean_over_views(flip: bool, shift: int, tmp_path: Path) -> None:
    model, _ = models.build(ModelConfig("m", LAYERS, {}), IMAGES.shape[1:])
    classifier = models.classifier(model, PredictionConfig(flip, shift))
    assert classifier.count_params() == model.count_params()

    views = [moved(IMAGES, by) for by in (0, 0, -shift, shift)]  # the image where it is has half of the weight
    views += [view[:, :, ::-1] for view in views] if flip else []
    expected = [softmax(model.predict(view, verbose=0), axis=1) for view in views]
    assert not np.allclose(expected[0], np.mean(expected, axis=0), atol=1e-3)
    probabilities = classifier.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(probabilities, np.mean(expected, axis=0), atol=1e-6)

    classifier.save(tmp_path / "views.keras")
    served = keras.models.load_model(tmp_path / "views.keras", safe_mode=True)
    np.testing.assert_array_equal(served.predict(IMAGES, verbose=0), probabilities)


def test_views_decide_a_result(compose: Callable[..., Config]) -> None:
    configs = [compose("data=digits", *views) for views in ((), ("prediction.flip=true",), ("prediction.shift=1",))]
    splits = datasets.load(configs[0].data)
    assert len({fingerprint.fingerprint(config, splits) for config in configs}) == 3
    assert "shift" not in fingerprint._decisive(configs[0].prediction, "prediction")  # as before there was one


@pytest.mark.parametrize(("shift", "said"), [(32, "got 32, expected at most 31"), (-1, "got -1, expected at least 0")])
def test_an_image_cannot_be_moved_beyond_its_mirror_image(
    shift: int, said: str, compose: Callable[..., Config]
) -> None:
    with pytest.raises(UserError, match=f"prediction.shift: {said}"):
        compose("data=digits", f"prediction.shift={shift}")
