"""Train two runs in one process, as a notebook does, as `python -m train_twice OVERRIDE...`.

Prints a line of JSON about them.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np

import cifar_exp
from cifar_exp.data import datasets

before = dict(os.environ)
first, second = (cifar_exp.train(*sys.argv[1:]) for _ in range(2))
images = datasets.load(second.config.data).test.images[:]
predicted = first.model().predict(images, verbose=0)
answer = {
    "runs": [run.run_id for run in (first, second)],
    "losses": [run.history["val/loss"].tolist() for run in (first, second)],
    "error": float(np.abs(predicted - second.predictions.filter(like="p_")).to_numpy().max()),
    "environment_is_as_before": dict(os.environ) == before,
}
print(json.dumps(answer))
