"""Tests of the cache: decoded once, whole or not at all, completed after a kill, bounded."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cifar_exp
from cifar_exp.data import cache, contents, filling
from cifar_exp.data.decoding import Decoder
from cifar_exp.errors import UserError

ROOT = Path(cifar_exp.__file__).parent.parent


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be remembered that were just written."""
    monkeypatch.setattr(contents, "_SETTLED_NS", 0)


def images(folder: Path, count: int, side: int = 8) -> list[Path]:
    """PNG files of random pixels."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    paths = [folder / f"{i:04}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (side, side, 3), np.uint8)).save(path)
    return paths


def entry(paths: list[Path], key: str = "key", side: int = 8) -> cache.Entry:
    return filling.entry(key, lambda: paths, (len(paths), side, side, 3), Decoder())


def decoded(paths: list[Path]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in paths])


@pytest.mark.parametrize("count", [1, 100, 700])  # in this process, and by a pool
def test_images_are_decoded_once_in_their_order(
    count: int, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = images(tmp_path / "images", count)
    with caplog.at_level(logging.INFO, "cifar_exp"):
        first, again = entry(paths), entry(paths)
    assert [record.message for record in caplog.records] == [f"decoding {count} images into {folder}"]
    for found in (first, again):
        assert np.array_equal(found.pixels, decoded(paths))
        assert found.bad == {}
    with pytest.raises(ValueError, match="read-only"):
        first.pixels[0] = 0
    assert sorted(path.name for path in (folder / "key").iterdir()) == ["digests", "entry.json", "pixels"]


@pytest.mark.parametrize("count", [100, 700])
def test_bad_images_are_kept_by_index_and_reason(count: int, tmp_path: Path) -> None:
    paths = images(tmp_path / "images", count)
    paths[3].write_text("no image")
    paths[70].unlink()
    Image.new("RGB", (9, 8)).save(paths[80])
    found = entry(paths)
    assert found.bad == {
        3: "not an image in PNG, JPEG, WebP, BMP, TIFF or GIF format",
        70: "No such file or directory",
        80: "9 x 8 pixels, the first image has 8 x 8 pixels",
    }
    assert not found.pixels[[3, 70, 80]].any()
    good = [i for i in range(count) if i not in found.bad]
    assert np.array_equal(found.pixels[good], decoded([paths[i] for i in good]))
    assert len({digest.tobytes() for digest in found.digests[good]}) == len(good)


PROGRAM = """
import logging, sys
from pathlib import Path
from cifar_exp.data import filling
from cifar_exp.data.decoding import Decoder
if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    filling._SAVE_SECONDS = 0
    paths = sorted(Path(sys.argv[1]).iterdir())
    print(filling.entry("key", lambda: paths, (len(paths), 8, 8, 3), Decoder((8, 8))).pixels.sum(dtype=int))
"""


@pytest.fixture
def start(tmp_path: Path, folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process that fills the entry from the files in `images`."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CIFAR_EXP_CACHE": str(folder)}
    started = []

    def starts() -> subprocess.Popen[str]:
        command = [sys.executable, str(program), str(tmp_path / "images")]
        process = subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True)
        started.append(process)
        return process

    yield starts
    for process in started:
        process.kill()
        process.wait()


def test_processes_that_start_at_once_decode_once(tmp_path: Path, start: Callable[[], subprocess.Popen[str]]) -> None:
    paths = images(tmp_path / "images", 600)
    done = [process.communicate() for process in [start(), start(), start()]]
    assert [stdout for stdout, _ in done] == [f"{decoded(paths).sum(dtype=int)}\n"] * 3
    assert sum(stderr.count("decoding") for _, stderr in done) == 1


def test_what_a_killed_process_has_decoded_is_completed(
    tmp_path: Path, folder: Path, start: Callable[[], subprocess.Popen[str]], caplog: pytest.LogCaptureFixture
) -> None:
    paths = images(tmp_path / "images", 20, side=200)
    for i in range(20, 1500):
        link = tmp_path / "images" / f"{i:04}.png"
        link.hardlink_to(paths[i % 20])
        paths.append(link)
    process = start()
    lines = folder / "key.partial" / cache.BLOCKS
    while not (lines.exists() and lines.stat().st_size):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert cache.find("key") is None
    with lines.open("a") as file:
        file.write('{"block": 5')  # cut off
    finished = len(lines.read_text().splitlines()) - 1
    with caplog.at_level(logging.INFO, "cifar_exp"):
        found = filling.entry("key", lambda: paths, (1500, 8, 8, 3), Decoder((8, 8)))
    assert caplog.records[0].message.startswith(f"decoding {1500 - 64 * finished:,} images")
    expected = np.stack([Decoder((8, 8)).decode(path) for path in paths[:20]])
    assert np.array_equal(found.pixels, np.tile(expected, (75, 1, 1, 1)))


def test_the_longest_unused_entries_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = images(tmp_path / "images", 10)  # 1,920 bytes
    monkeypatch.setenv("CIFAR_EXP_CACHE_GB", "0.000004")
    for age, key in enumerate(("first", "second")):
        entry(paths, key)
        os.utime(cache.folder() / key / cache.ENTRY, (age, age))
    entry(paths, "first")  # used now
    third = entry(paths, "third")
    assert [summary.key for summary in cache.entries()] == ["first", "third"]
    with pytest.raises(UserError, match=r"CIFAR_EXP_CACHE_GB, or choose a smaller data\.size"):
        entry(paths * 3, "large")
    assert [summary.key for summary in cache.entries()] == ["first", "third"]
    assert all(cache.remove(summary) for summary in cache.entries())
    assert cache.entries() == []
    assert np.array_equal(third.pixels, decoded(paths))  # still mapped


@pytest.mark.parametrize("value", ["0", "-1", "many", "nan", "inf"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CIFAR_EXP_CACHE_GB", value)
    with pytest.raises(UserError, match=f"CIFAR_EXP_CACHE_GB: got '{value}'"):
        cache.limit()


def test_a_full_disk_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = images(tmp_path / "images", 1)
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]).returncode:
        pytest.skip("only root may mount a small disk")
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(small))
    try:
        with pytest.raises(UserError, match=r"no space for 0.0 GB of decoded images; free some.*CIFAR_EXP_CACHE"):
            entry(paths * 20_000)
        assert cache.entries() == []
        assert entry(paths * 100, "other").bad == {}
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_a_cache_folder_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="name another folder for decoded images with CIFAR_EXP_CACHE"):
        entry(images(tmp_path / "images", 1))


def test_a_damaged_entry_is_made_again(tmp_path: Path, folder: Path) -> None:
    paths = images(tmp_path / "images", 3)
    emptied = [(name, b"") for name in ("entry.json", "pixels", "digests")]
    for name, content in (*emptied, ("entry.json", b"{}"), ("digests", b"0")):
        entry(paths)
        (folder / "key" / name).write_bytes(content)
        assert cache.find("key") is None
        assert len(cache.entries()) == 1
        assert np.array_equal(entry(paths).pixels, decoded(paths))
    (folder / "key" / "entry.json").write_bytes(b"")
    assert cache.remove(cache.entries()[0])
    assert cache.entries() == []


def test_an_entry_whose_lock_cannot_be_opened_is_refused(tmp_path: Path, folder: Path) -> None:
    (folder / "key.lock").mkdir(parents=True)
    with pytest.raises(UserError, match=f"{folder}: Is a directory; name another folder .* with CIFAR_EXP_CACHE"):
        entry(images(tmp_path / "images", 1))


AS_NOBODY = """
import os, sys
from cifar_exp.data import cache
cache.find("key")  # imports what the other user may not read
os.setgid(65534)
os.setuid(65534)
sys.exit(cache.find("key") is None)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_an_entry_of_another_user_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as shared:  # the folder of the test is closed to other users
        Path(shared).chmod(0o755)
        monkeypatch.setenv("CIFAR_EXP_CACHE", f"{shared}/cache")
        entry(images(tmp_path / "images", 1))
        assert subprocess.run([sys.executable, "-c", AS_NOBODY], cwd=ROOT).returncode == 0


def test_only_files_that_have_changed_are_hashed_again(tmp_path: Path, settled: None) -> None:
    paths = images(tmp_path / "images", 3)
    names = [path.name for path in paths]
    for path in paths:
        os.utime(path, (1, 1))
    memory = tmp_path / "memory"
    first, _ = contents.digests(tmp_path / "images", names, memory)
    (remembered,) = memory.iterdir()
    content = json.loads(remembered.read_text())
    content[names[0]][-1] = "remembered"
    remembered.write_text(json.dumps(content))
    paths[1].write_bytes(b"changed")
    paths[2].unlink()
    found, bad = contents.digests(tmp_path / "images", names, memory)
    assert found[0] == "remembered"
    assert found[1] not in ("", first[1])
    assert bad == {2: "No such file or directory"}
    remembered.write_text("damaged")
    assert contents.digests(tmp_path / "images", names, memory)[0][0] == first[0]
    contents.forget(memory)
    assert list(memory.iterdir()) == []


@pytest.mark.parametrize("swap", ["cp -p {new} {old}", "mv {new} {old}"])
def test_another_file_with_the_same_size_and_time_is_hashed_again(tmp_path: Path, swap: str, settled: None) -> None:
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    for path in (old, new):
        path.write_text(path.stem)
        os.utime(path, (1, 1))
    before, _ = contents.digests(tmp_path, ["old.png"], tmp_path / "memory")
    subprocess.run(swap.format(new=new, old=old).split(), check=True)
    assert contents.digests(tmp_path, ["old.png"], tmp_path / "memory")[0] != before


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert contents.digests(tmp_path, ["pipe.png"], tmp_path) == ([""], {0: "not a regular file"})


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path, settled: None) -> None:
    path = images(tmp_path / "images", 1)[0]
    assert contents.digests(path.parent, [path.name], path / "memory") == contents.digests(
        path.parent, [path.name], tmp_path
    )


def test_a_file_that_was_just_written_is_hashed_again(tmp_path: Path) -> None:
    path = images(tmp_path / "images", 1)[0]
    before = contents.digests(path.parent, [path.name], tmp_path)
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert contents.digests(path.parent, [path.name], tmp_path) != before
