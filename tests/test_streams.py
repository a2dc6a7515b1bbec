"""Tests of standard streams without a reader: a closed pipe, a closed terminal, a closed descriptor."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from rich.console import Console
from cifar_exp import streams
streams.tolerate_missing_readers(also_full_disks=len(sys.argv) > 2)
console = Console()
waited = sys.stdin and sys.stdin.readline()  # until the reader is gone
for stream in (sys.stdout, sys.stderr):
    for number in range(3):
        print("line", number, file=stream, flush=True)
console.print("by rich")
if not os.path.samestat(os.fstat(1), os.stat("/dev/full")):
    os.write(1, b"by a library in C")
with Path(sys.argv[1]).open("w") as file:
    file.write("goes on" if file.fileno() > 2 else "has the number of a standard stream")
"""
PYTHON = [sys.executable, "-c", PROGRAM]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_program_survives_a_reader_that_closes_the_pipe(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [*PYTHON, str(tmp_path / "done")],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert running.stdout is not None
    running.stdout.close()
    running.communicate(b"\n", timeout=60)
    assert (running.returncode, (tmp_path / "done").read_text()) == (0, "goes on")


def test_program_survives_a_closed_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [*PYTHON, str(tmp_path / "done")], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.close(ours)  # from now on it answers EIO
    running.communicate(b"\n", timeout=60)
    assert (running.returncode, (tmp_path / "done").read_text()) == (0, "goes on")


def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    command = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", command, "sh", *PYTHON, str(tmp_path / "done")], env=ENVIRONMENT, timeout=60)
    assert (done.returncode, (tmp_path / "done").read_text()) == (0, "goes on")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_full_disk_is_an_error_unless_it_is_to_be_ignored(tmp_path: Path) -> None:
    for arguments, code in (((), 1), (("drop",), 0)):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [*PYTHON, str(tmp_path / "done"), *arguments],
                env=ENVIRONMENT,
                input=b"\n",
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=60,
            )
        assert (b"No space left on device" in done.stderr) == bool(code)
        assert (done.returncode != 0) == bool(code)


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    program = "from cifar_exp import streams; streams.tolerate_missing_readers(); print('\\u4f60')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, b"\\u4f60\n")
