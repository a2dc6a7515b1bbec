"""Maps of what a classifier looks at: where the answer is known they peak there, on every backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import planted
import pytest

from cifar_exp.evaluation import gradients, saliency
from cifar_exp.importing import is_installed

EXPECTED = {
    "HiResCAM peaks in the region": True,
    "occlusion peaks in the region": True,
    "HiResCAM outside": 0.0,
    "HiResCAM is the product": True,
    "methods": ["Grad-CAM", "HiResCAM", "occlusion"],
    "Grad-CAM peaks at the spot": True,
    "HiResCAM peaks at the spot": True,
    "occlusion peaks at the spot": True,
    "FGSM darkens the region": True,
    "PGD darkens the region": True,
}


def check(answers: dict[str, Any]) -> None:
    """Compare with what is known."""
    one_by_one, measured = answers.pop("errors")
    assert answers == EXPECTED
    assert one_by_one == measured


def test_maps_peak_where_the_answer_is_known() -> None:
    check(planted.answers())


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_maps_peak_where_the_answer_is_known_on_other_backends(backend: str, tmp_path: Path) -> None:
    if not is_installed(backend):
        pytest.skip(f"{backend} is not installed: pip install 'cifar-exp[{backend}]'")
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, planted.__file__], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers.pop("backend") == backend
    check(answers)


def test_with_random_weights_the_maps_change() -> None:
    """The sanity check of Adebayo et al. (2018): a map that stays the same shows the image, not the model."""
    keras.utils.set_random_seed(0)
    for model, images, methods in (
        (planted.region_model(), planted.noise(), ("HiResCAM", "occlusion")),
        (planted.spot_model(), planted.spots()[0], ("Grad-CAM", "HiResCAM")),
    ):
        random = keras.models.clone_model(model)  # with new weights
        before, after = (saliency.maps(one, images, np.ones(3, np.intp)) for one in (model, random))
        for method in methods:
            assert after[method].std() > 0
            assert abs(np.corrcoef(before[method].ravel(), after[method].ravel())[0, 1]) < 0.5, method


def test_a_model_without_a_convolution_gets_an_occlusion_map_only() -> None:
    images = keras.Input((16, 16, 1))
    model = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(images)))
    maps = saliency.maps(model, np.zeros((2, 16, 16, 1), np.uint8), np.zeros(2, np.intp))
    assert {method: each.shape for method, each in maps.items()} == {"occlusion": (2, 16, 16)}


def test_derivatives_are_those_of_finite_differences() -> None:
    inputs = keras.Input((3, 4, 2))
    hidden = keras.layers.Dense(5, activation="tanh")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dropout(0.5)(hidden)))
    given = np.random.default_rng(0).standard_normal((2, 3, 4, 2)).astype(np.float32)
    derivatives = gradients.of_outputs(model, given, np.array([2, 0]))
    step = np.zeros_like(given)
    step[:, 1, 2, 1] = 0.01
    both = [model.predict(given + sign * step, verbose=0)[[0, 1], [2, 0]] for sign in (1, -1)]
    assert derivatives[:, 1, 2, 1] == pytest.approx((both[0] - both[1]) / 0.02, abs=1e-3)


def test_patches_of_occlusion_cover_every_pixel() -> None:
    for length in (1, 3, 8, 28, 31, 224):
        covered = np.zeros(length, int)
        for window in saliency._windows(length):
            covered[window] += 1
        assert covered.min() >= 1
