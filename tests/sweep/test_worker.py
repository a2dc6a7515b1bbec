"""Test of a worker that is asked to stop between two jobs."""

from __future__ import annotations

import subprocess
import sys

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
