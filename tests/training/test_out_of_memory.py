"""An allocation that fails is one kind of error, whoever made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cifar_exp.errors import OutOfMemory, UserError
from cifar_exp.training import out_of_memory

VALUES = 10**14  # 400 TB
MESSAGE = r"^out of memory: .*alloc.*; set a smaller training.batch_size"


def of_tensorflow() -> Any:
    return pytest.importorskip("tensorflow").fill([VALUES], 1.0)


def of_torch() -> Any:
    return pytest.importorskip("torch").empty(VALUES)


@pytest.mark.parametrize("allocate", [of_tensorflow, of_torch, lambda: np.empty(VALUES)])
def test_a_failed_allocation_is_reported_in_one_line(allocate: Callable[[], Any]) -> None:
    with pytest.raises(OutOfMemory, match=MESSAGE) as raised, out_of_memory.translate_errors():
        allocate()
    assert "{{" not in str(raised.value) and "\n" not in str(raised.value)
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize(
    "error", [ValueError("not so"), UserError("not enough memory"), OSError("can't allocate memory")]
)
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, out_of_memory.translate_errors():
        raise error
    assert raised.value is error
