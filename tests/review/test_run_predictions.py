"""Tests of files of predictions, which may come from anywhere."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_paired import file, predictions

from cifar_exp.errors import UserError
from cifar_exp.review import run_predictions


def repeated(rows: int) -> bytes:
    """A file of a few kilobytes that repeats the same row."""
    one = pa.table(predictions([0], [0]))
    columns = [pa.chunked_array([pa.repeat(one[name][0], rows)]) for name in one.column_names]
    written = io.BytesIO()
    pq.write_table(pa.table(columns, one.column_names), written, compression="zstd")
    assert len(written.getvalue()) < 1_000_000
    return written.getvalue()


def of_classes(number: int) -> bytes:
    """A file of one row with this number of classes."""
    columns = {name: [0] for name in ("index", "label", "predicted")} | {
        f"p_{at}": [float(at == 0)] for at in range(number)
    }
    written = io.BytesIO()
    pq.write_table(pa.table(columns), written)
    return written.getvalue()


@pytest.mark.parametrize(("number", "is_shown"), [(200, True), (201, False)])
def test_a_confusion_matrix_of_many_classes_is_not_made(number: int, is_shown: bool) -> None:
    frame = run_predictions.parse(of_classes(number), "run x")
    assert (run_predictions.confusion_matrix(frame) is not None) == is_shown


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1 and nothing more", "cannot be read"),
        (b"", "cannot be read"),
        (file(predictions([0, 1], [0, 1]).drop(columns="label")), "has no column 'label'"),
        (file(predictions([0, 1], [0, 1])[["index", "label", "predicted"]]), "does not have one row"),
        (file(predictions([0, 1], [0, 1]).assign(label=["x", "y"])), "does not have one row"),
        (file(predictions([0, 1], [0, 1])[:0]), "does not have one row"),
        (file(predictions([0, 1], [0, 3])), "has labels or predictions outside"),
        (file(predictions([0, 1], [0, 1]).assign(label=pd.array([0, None], "Int64"))), "has rows without"),
        *(
            (file(predictions([0, 1], [0, 1]).assign(p_a=p_a)), "holds values that are no probabilities")
            for p_a in (np.nan, np.inf, pd.array([None, 1 / 3], "Float32"), -1 / 3, 1.5)
        ),
        (repeated(4_000_000), "holds 4,000,000 rows"),
        (repeated(10), "is compressed with ZSTD"),  # ten rows may be in pages of any number of values
        (of_classes(10_001), "has 10,001 classes; at most 10,000 are read"),
    ],
    ids=[
        *("damaged", "empty", "no labels", "no probabilities", "text", "no rows", "unknown class", "gap"),
        *("not a number", "infinite", "null", "negative", "above one", "expanding", "other compression", "wide"),
    ],
)
def test_a_file_that_holds_no_predictions_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=f"run x: evaluation/predictions.parquet {message}"):
        run_predictions.parse(content, "run x")
