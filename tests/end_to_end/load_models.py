"""Load logged models of the digits with MLflow alone, as `python -m load_models RUN...`.

Prints as JSON for each run: the largest difference from the stored probabilities, and the loss on the validation
images.
"""

from __future__ import annotations

import json
import sys

import mlflow
import numpy as np
import pandas as pd

from cifar_exp.config.composition import plan
from cifar_exp.data import datasets


def compared(run_id: str) -> tuple[float, float]:
    """Predict with the model of a run as MLflow loads it."""
    splits = datasets.load(plan(["data=digits", "data.train_images=200"], multirun=False).jobs[0].data)
    run = mlflow.get_run(run_id)
    model = mlflow.pyfunc.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")
    file = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/evaluation/predictions.parquet")
    stored = pd.read_parquet(file).filter(like="p_").to_numpy()
    difference = np.abs(model.predict(splits.test.images) - stored).max()
    validation = splits.validation
    chosen = model.predict(validation.images)[np.arange(len(validation)), validation.labels]
    return float(difference), float(-np.log(chosen.astype(np.float64)).mean())


if __name__ == "__main__":
    print(json.dumps({run_id: compared(run_id) for run_id in sys.argv[1:]}))
