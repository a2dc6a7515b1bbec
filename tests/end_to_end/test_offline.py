"""A machine without a package index and without TensorFlow: cifar_exp is installed from a bundle, trains and logs."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import program
import pytest

# What such a machine often has: a backend, and the usual packages of data science.
PRESENT = """
absl-py aiohappyeyeballs aiohttp aiosignal annotated-doc annotated-types anyio attrs blinker cachetools certifi cffi
charset-normalizer click cloudpickle contourpy cycler fastapi flask fonttools frozenlist gitdb gitpython h11 h5py idna
importlib-metadata itsdangerous jax jaxlib jinja2 joblib kiwisolver markdown-it-py markupsafe matplotlib mdurl
ml-dtypes multidict narwhals numpy opentelemetry-api opentelemetry-proto opentelemetry-sdk
opentelemetry-semantic-conventions opt-einsum packaging pandas pillow prettytable propcache pycparser protobuf psutil
pyarrow pydantic pydantic-core pygments pyparsing python-dateutil python-dotenv pyyaml requests rich scikit-learn
scipy six smmap starlette threadpoolctl tqdm typing-extensions typing-inspection urllib3 uvicorn wcwidth werkzeug yarl
zipp
"""


def machine(folder: Path) -> Path:
    """Make a Python that has the packages of `PRESENT`, and no others; return its executable."""
    venv.create(folder, with_pip=True, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    for name in PRESENT.split():
        dist = distribution(name)
        for top in {file.parts[0] for file in dist.files or ()} - {"..", "__pycache__"}:
            target = packages / top
            if not target.exists():
                target.symlink_to(Path(str(dist.locate_file(top))))
    return folder / "bin" / "python"


def test_a_machine_without_an_index_trains_on_jax_from_a_bundle(tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="jax is not installed: pip install 'cifar-exp[jax]'")
    there = tmp_path / "has.txt"
    there.write_text("\n".join(PRESENT.split()))
    bundle = tmp_path / "bundle"
    packed = [sys.executable, str(program.ROOT / "offline" / "bundle.py"), "--has", str(there), "--target", str(bundle)]
    done = subprocess.run(packed, cwd=tmp_path, capture_output=True, text=True)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"the package index cannot be reached: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    size = sum(file.stat().st_size for file in bundle.rglob("*.whl"))
    assert 10e6 < size < 40e6

    python = machine(tmp_path / "machine")
    alone = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "NPROC": "1"}
    installed = subprocess.run([bundle / "install", python], env=alone, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    asked = "import importlib.util as u, cifar_exp; print(cifar_exp.__file__, u.find_spec('tensorflow'))"
    found = subprocess.run([bundle / "python", "-c", asked], env=alone, cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.strip() == f"{bundle / 'lib' / 'cifar_exp' / '__init__.py'} None", found.stderr
    run = ["-m", "cifar_exp", "data=digits", "model=dense", "model.layers=[Flatten,{Dense:{units:10}}]"]
    run += ["training.epochs=1", "data.train_images=100"]
    trained = subprocess.run([bundle / "python", *run], env=alone, cwd=tmp_path, capture_output=True, text=True)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "mlflow.db").exists(), trained.stderr
    (logged,) = program.runs(program.client(tmp_path))
    assert logged.info.status == "FINISHED" and logged.data.tags["cifar_exp.backend"].startswith("jax ")
    assert logged.outputs.model_outputs
