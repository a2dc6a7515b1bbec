"""Tests of locating, downloading, verifying and unpacking the CIFAR-10 files."""

from __future__ import annotations

import hashlib
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from cifar_exp.data import cifar10
from cifar_exp.data.archive import CHECKSUMS
from cifar_exp.data.cifar10 import ARCHIVE, FILES, FOLDER, RECORD_BYTES, TEST_FILES, TRAINING_FILES
from cifar_exp.data.official import data_folder
from cifar_exp.errors import UserError


def refusal(folder: Path, verify: str = "md5") -> str:
    """Return the one-line message with which `find` refuses a folder."""
    with pytest.raises(UserError) as refused:
        cifar10.find(str(folder), verify)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def archive(small_cifar10: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pack the six small files as cifar-10-binary.tar.gz, and make its MD5 the official one."""
    path = tmp_path / "release" / ARCHIVE
    path.parent.mkdir()
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(small_cifar10, FOLDER)
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


class Site(ThreadingHTTPServer):
    """An HTTP server on a loopback port that answers every GET with `body`, or only with its first `sent` bytes."""

    def __init__(self, body: bytes, sent: int | None = None, status: int = 200) -> None:
        self.requests: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                self.requests.append(handler.path)
                handler.send_response(status)
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body[:sent])

            def log_message(handler, format: str, *arguments: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/{ARCHIVE}"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """serve(body, ...): start a `Site` and make it the download address of CIFAR-10."""
    sites: list[Site] = []

    def start(body: bytes, **options: Any) -> Site:
        site = Site(body, **options)
        threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(cifar10, "ARCHIVE_URL", site.url)
        sites.append(site)
        return site

    yield start
    for site in sites:
        site.shutdown()
        site.server_close()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a port that nobody listens on the download address of CIFAR-10."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{ARCHIVE}"
    monkeypatch.setattr(cifar10, "ARCHIVE_URL", url)
    return url


def test_full_size_files_are_found_in_their_parent_and_in_their_own_folder(synthetic_cifar10: Path) -> None:
    for folder in (synthetic_cifar10, synthetic_cifar10 / FOLDER):
        assert cifar10.find(str(folder), "size").folder == synthetic_cifar10 / FOLDER


def test_the_environment_names_the_folder_where_the_config_does_not(
    small_cifar10: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_EXP_DATA", str(small_cifar10.parent))
    assert cifar10.find(None, "size").folder == small_cifar10
    monkeypatch.delenv("CIFAR_EXP_DATA")
    assert data_folder(None).name == "cifar_exp"


def test_images_and_labels_are_read_in_the_official_layout(small_cifar10: Path) -> None:
    images, labels = cifar10.read(small_cifar10, TRAINING_FILES)
    assert (images.shape, images.dtype, labels.shape, labels.dtype) == ((100, 32, 32, 3), np.uint8, (100,), np.uint8)
    record = (small_cifar10 / "data_batch_3.bin").read_bytes()[7 * RECORD_BYTES : 8 * RECORD_BYTES]
    image = images[47]
    assert labels[47] == record[0]
    assert image[0, 0].tolist() == [record[1], record[1 + 1024], record[1 + 2048]]  # red, green, blue planes
    assert image[2, 5].tolist() == [record[1 + plane * 1024 + 2 * 32 + 5] for plane in range(3)]
    assert image[31, 31, 2] == record[-1]


def test_a_label_that_is_no_class_is_refused_by_file_and_record(synthetic_cifar10: Path, tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    for name in TRAINING_FILES[:2]:
        (folder / name).write_bytes((synthetic_cifar10 / FOLDER / name).read_bytes())
    with (folder / TRAINING_FILES[1]).open("r+b") as file:
        file.seek(1234 * RECORD_BYTES)
        file.write(b"\x0a")
    with pytest.raises(UserError, match=r"data_batch_2.bin: record 1234 has label 10, expected 0 to 9"):
        cifar10.read(folder, TRAINING_FILES[:2])


def test_damaged_checksums_are_refused_by_their_name(small_cifar10: Path) -> None:
    (small_cifar10 / CHECKSUMS).write_bytes(b"\xff\n")
    assert f"{small_cifar10 / CHECKSUMS} is damaged: it does not have the MD5 of" in refusal(small_cifar10.parent)


@pytest.mark.parametrize("change", [-1, 1, -20 * RECORD_BYTES])
def test_a_file_of_another_size_is_refused_by_its_name(small_cifar10: Path, change: int) -> None:
    path = small_cifar10 / "data_batch_4.bin"
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + b"x")
    for verify in ("md5", "size"):
        message = refusal(small_cifar10.parent, verify)
        assert message.startswith(f"{path}: {len(content) + change:,} bytes, expected {len(content):,}")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_its_name(small_cifar10: Path, name: str) -> None:
    (small_cifar10 / name).unlink()
    assert refusal(small_cifar10.parent, "size").startswith(f"{small_cifar10 / name}: missing")


def test_a_copy_that_cannot_be_verified_is_refused_unless_only_its_size_counts(small_cifar10: Path) -> None:
    message = refusal(small_cifar10.parent, "md5")
    assert message.startswith(f"{small_cifar10} was not unpacked from the verified {ARCHIVE}")
    assert "data.verify=size" in message
    found = cifar10.find(str(small_cifar10.parent), "size")
    assert "not the official release" in found.source
    assert str(small_cifar10) in found.source


def test_an_archive_in_the_folder_is_unpacked_verified_and_kept(archive: Path, small_cifar10: Path) -> None:
    for _ in range(2):  # unpacked, then found
        found = cifar10.find(str(archive.parent), "md5")
        assert found == (archive.parent / FOLDER, cifar10.ARCHIVE_URL)
    assert names(archive.parent) == sorted([ARCHIVE, FOLDER])
    assert names(found.folder) == sorted([*FILES, CHECKSUMS])
    for name in FILES:
        assert (found.folder / name).read_bytes() == (small_cifar10 / name).read_bytes()


def test_a_pixel_that_changed_after_unpacking_is_refused_by_file(archive: Path) -> None:
    folder = cifar10.find(str(archive.parent), "md5").folder
    path = folder / TEST_FILES[0]
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    assert refusal(archive.parent).startswith(f"{path} differs from the official release (MD5)")
    assert f"{path} differs" in cifar10.find(str(archive.parent), "size").source


def test_an_archive_that_is_not_the_official_one_is_refused_and_not_unpacked(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-1])
    message = refusal(archive.parent)
    assert message.startswith(f"{archive}: MD5 ")
    assert cifar10.ARCHIVE_MD5 in message
    assert names(archive.parent) == [ARCHIVE]


def test_an_archive_that_lacks_a_file_leaves_nothing_unpacked(
    small_cifar10: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(small_cifar10 / FILES[0], f"{FOLDER}/{FILES[0]}")
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    assert FILES[1] in refusal(archive.parent)
    assert names(archive.parent) == [ARCHIVE]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, OSError])
def test_an_interrupt_while_unpacking_leaves_no_partial_folder(
    archive: Path, monkeypatch: pytest.MonkeyPatch, interrupt: type[BaseException]
) -> None:
    def stop_halfway(content: IO[bytes], file: IO[bytes]) -> None:
        file.write(content.read(100))
        raise interrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", stop_halfway)
        with pytest.raises(UserError if interrupt is OSError else interrupt):
            cifar10.find(str(archive.parent), "md5")
    assert names(archive.parent) == [ARCHIVE]
    assert cifar10.find(str(archive.parent), "md5").folder.is_dir()


def test_a_download_is_unpacked_verified_and_leaves_only_the_files(archive: Path, serve: Any, tmp_path: Path) -> None:
    site = serve(archive.read_bytes())
    root = tmp_path / "new" / "folder"
    for _ in range(2):  # downloaded, then found
        assert cifar10.find(str(root), "md5") == (root / FOLDER, site.url)
    assert site.requests == [f"/{ARCHIVE}"]
    assert names(root) == [FOLDER]


def test_a_download_with_a_wrong_md5_is_refused_and_leaves_nothing(archive: Path, serve: Any, tmp_path: Path) -> None:
    site = serve(archive.read_bytes() + b"x")
    root = tmp_path / "new"
    message = refusal(root)
    assert site.url in message
    assert not root.exists()


def test_a_download_that_is_cut_short_is_refused_and_leaves_nothing(archive: Path, serve: Any, tmp_path: Path) -> None:
    site = serve(archive.read_bytes(), sent=100_000)
    root = tmp_path / "new"
    message = refusal(root)
    assert message.startswith(f"CIFAR-10 is not in {root}, and {site.url} could not be downloaded (")
    assert "data=digits" in message
    assert not root.exists()


def test_an_error_status_of_the_server_is_reported(serve: Any, tmp_path: Path) -> None:
    site = serve(b"gone", status=404)
    message = refusal(tmp_path / "new")
    assert site.url in message
    assert "404" in message


def test_an_unreachable_server_is_named_with_the_folder_and_the_alternatives(nowhere: str, tmp_path: Path) -> None:
    root = tmp_path / "new"
    message = refusal(root)
    assert message.startswith(f"CIFAR-10 is not in {root}, and {nowhere} could not be downloaded (")
    assert "refused" in message
    assert "data=digits needs none" in message
    assert not root.exists()


def test_a_folder_that_cannot_be_made_is_refused(nowhere: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refusal(tmp_path / "file" / "data")


def test_the_official_release_is_named() -> None:
    assert cifar10.ARCHIVE_URL == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert cifar10.ARCHIVE_MD5 == "c32a1d4ab5d03f1284b67883e8d873ed"
    assert cifar10.FILE_BYTES == 30_730_000
