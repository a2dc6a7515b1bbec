"""What the composition accepts can be trained: a mistake in a list of layers is found before, whatever it is."""

from __future__ import annotations

from random import Random

import pytest
import random_layers
import trained

from cifar_exp.config import overrides
from cifar_exp.errors import Diverged, UserError

LISTS = 25


@pytest.mark.parametrize("seed", range(2))
def test_random_lists_of_layers_are_trained_or_refused(seed: int) -> None:
    random, refused = Random(seed), 0
    for _ in range(LISTS):
        layers = random_layers.draw(random)
        try:
            trained.go_on((overrides.write("model.layers", layers), "data.train_images=40", "training.epochs=1"))
        except UserError:
            refused += 1
        except Diverged:  # of such layers some grow without bound
            pass
        except Exception as error:
            pytest.fail(f"accepted, and failed in training: {layers}: {type(error).__name__}: {error}")
    assert LISTS / 5 < refused < LISTS * 4 / 5
