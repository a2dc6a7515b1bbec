"""A split of the data as MLflow logs it."""

from __future__ import annotations

import json

from cifar_exp.data.splits import Split


def entity(name: str, source: str, context: str, split: Split) -> dict[str, str]:
    """Arguments of MLflow's `Dataset` entity for a split."""
    sha256 = split.sha256
    size = {"images": len(split), "shape": list(split.images.shape), "dtype": str(split.images.dtype)}
    return {
        "name": f"{name}-{context}",
        "digest": sha256[:32],  # the database column has 36 characters
        **_source(source),
        "profile": json.dumps({"sha256": sha256, **size}),
    }


def _source(source: str) -> dict[str, str]:
    """Source of a data set in the format that MLflow can read back for its own kinds of sources."""
    if source.startswith("https://"):
        return {"source_type": "http", "source": json.dumps({"url": source})}
    if source.startswith("/"):
        return {"source_type": "local", "source": json.dumps({"uri": source})}
    return {"source_type": "code", "source": json.dumps({"tags": {"mlflow.source.name": source}})}
