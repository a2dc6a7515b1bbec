"""Tests of a worker without Ray: a request to stop between two jobs, and images that the driver has sent."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from cifar_exp.data import cifar10
from cifar_exp.errors import UserError
from cifar_exp.sweep import worker

# The board's answer, the request to stop, is there before the job begins.
WORKER = """
import threading
from types import SimpleNamespace as Stub
import ray
from cifar_exp.sweep.worker import Place, Worker
ray.get = lambda answer: answer
board = Stub(stopped=Stub(remote=lambda: None), tell=Stub(remote=lambda *event: None))
worker = Worker("worker", board, Place(".", 1, None))
for thread in threading.enumerate():
    if thread.name == "board":
        thread.join()
print(worker.run(Stub(data=Stub()), "none").result)
"""


def test_a_job_that_begins_after_the_request_to_stop_ends_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


def test_sent_images_are_written_once_and_never_taken_from_a_folder_of_somebody_else(
    small_cifar10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = {name: (small_cifar10 / name).read_bytes() for name in cifar10.FILES}
    read = list[object]()
    monkeypatch.setattr(ray, "get", lambda reference: read.append(reference) or files)
    images = {("cifar10", "/no/such/folder"): worker.Images("digest", "reference")}
    for _ in range(2):
        data = SimpleNamespace(name="cifar10", dir="/no/such/folder")
        worker._bring_images(data, images)
        assert data.dir == str(tmp_path / f"cifar_exp-{os.getuid()}-digest")
    written = Path(data.dir) / small_cifar10.name
    assert {path.name: path.read_bytes() for path in written.iterdir()} == files and read == ["reference"]

    monkeypatch.setattr(os, "getuid", lambda: 4321)
    Path(data.dir).rename(tmp_path / "cifar_exp-4321-digest")
    with pytest.raises(UserError, match="it belongs to another user"):
        worker._bring_images(SimpleNamespace(name="cifar10", dir="/no/such/folder"), images)
