"""Save a trained classifier as an MLflow model, with signature and pinned requirements."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_exp.tracking.environment import requirements
from cifar_exp.tracking.store import import_mlflow


def save(classifier: Any, backend: str, classes: Sequence[str], temperature: float, folder: Path) -> None:
    """Save a classifier as an MLflow model.

    Args:
        classifier: a keras.Model from images (N, H, W, C) uint8 to probabilities (N, C) float32.
        backend: name of the package that Keras runs on.
        classes: C class names, in the order of the probabilities.
        temperature: that calibrates the probabilities.
        folder: target folder; an existing one is replaced.
    """
    import_mlflow()
    import mlflow.keras
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    shutil.rmtree(folder, ignore_errors=True)
    mlflow.keras.save_model(
        classifier,
        str(folder),
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype(np.uint8), (-1, *classifier.input_shape[1:]))]),
            Schema([TensorSpec(np.dtype(np.float32), (-1, len(classes)))]),
        ),
        # Without them MLflow would load the model in another process to infer them.
        pip_requirements=requirements("mlflow", "keras", backend, "numpy"),
        metadata={"classes": list(classes), "temperature": temperature},
    )
