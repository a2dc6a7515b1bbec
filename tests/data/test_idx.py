"""Tests of MNIST and Fashion-MNIST: files found, downloaded, verified and read, gzipped or not."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from idx_files import write_idx

from cifar_exp.data import idx
from cifar_exp.data.idx import IdxRelease
from cifar_exp.errors import UserError


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a server with the four gzipped files."""
    folder = write_idx(tmp_path / "site")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def release(site: str, tmp_path: Path) -> IdxRelease:
    """MNIST, as if the small files of the server were the official ones."""
    raw = write_idx(tmp_path / "raw", gzipped=False)

    def md5s(name: str) -> tuple[str, str]:
        files = (tmp_path / "site" / f"{name}.gz", raw / name)
        return hashlib.md5(files[0].read_bytes()).hexdigest(), hashlib.md5(files[1].read_bytes()).hexdigest()

    return replace(idx.MNIST, mirrors=(site,), md5s={name: md5s(name) for name in idx.MNIST.md5s})


def test_files_are_downloaded_once_verified_and_found_again(release: IdxRelease, tmp_path: Path) -> None:
    assert not release.is_available(str(tmp_path / "new"))
    for mirrors in (release.mirrors, ("http://127.0.0.1:9/",)):  # the second time, nothing is downloaded
        found = replace(release, mirrors=(release.mirrors[0], *mirrors[1:])).find(str(tmp_path / "new"), "md5")
        assert found == (tmp_path / "new" / "mnist", release.url)
    assert sorted(path.name for path in found.folder.iterdir()) == sorted(f"{name}.gz" for name in release.md5s)
    assert release.is_available(str(tmp_path / "new"))


def test_a_mirror_that_cannot_be_reached_is_passed_over(release: IdxRelease, tmp_path: Path) -> None:
    dead = replace(release, mirrors=("http://127.0.0.1:9/", *release.mirrors))
    assert dead.is_available(str(tmp_path / "new")) is False
    assert len(dead.names(dead.find(str(tmp_path / "new"), "md5").folder)) == 4
    with pytest.raises(UserError, match=r"^MNIST is not in .*, and http://127.0.0.1:9/.* could not be downloaded \("):
        replace(release, mirrors=("http://127.0.0.1:9/",)).find(str(tmp_path / "other"), "md5")


def test_files_that_are_not_gzipped_and_lie_in_the_folder_itself_are_found(release: IdxRelease, tmp_path: Path) -> None:
    assert release.find(str(tmp_path / "raw"), "md5") == (tmp_path / "raw", release.url)


def test_an_altered_file_is_refused_unless_only_its_layout_counts(release: IdxRelease, tmp_path: Path) -> None:
    path = tmp_path / "raw" / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte differs from the official release of MNIST \(MD5\)"):
        release.find(str(tmp_path / "raw"), "md5")
    assert "not the official release: t10k-images" in release.find(str(tmp_path / "raw"), "size").source


@pytest.mark.parametrize("gzipped", [True, False])
def test_images_and_labels_are_read_in_the_layout_of_idx(tmp_path: Path, gzipped: bool) -> None:
    folder = write_idx(tmp_path, gzipped=gzipped)
    images, labels = idx.read(folder, idx.TRAINING, 10)
    assert (images.shape, images.dtype, labels.dtype) == ((60, 28, 28, 1), np.uint8, np.uint8)
    expected = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
    assert np.array_equal(images[..., 0], expected)
    assert labels.tolist() == [i % 10 for i in range(60)]
    assert idx.read(folder, idx.TEST, 10)[0].shape == (20, 28, 28, 1)


def test_a_file_that_is_cut_off_or_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_idx(tmp_path, gzipped=False)
    labels = folder / "train-labels-idx1-ubyte"
    content = labels.read_bytes()
    for changed, said in (
        (content[:-1], r"59 values, expected 60, as its head says"),
        (b"<html>" + content, r"not an IDX file of bytes in 1 dimensions"),
        (content[:-1] + b"\x0a", r"label 10, expected 0 to 9"),
    ):
        labels.write_bytes(changed)
        with pytest.raises(UserError, match=said):
            idx.read(folder, idx.TRAINING, 10)
    labels.unlink()
    with pytest.raises(UserError, match="train-labels-idx1-ubyte: missing"):
        idx.read(folder, idx.TRAINING, 10)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8b\x08 cut off")
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte\.gz: "):
        idx.read(folder, idx.TRAINING, 10)


def test_the_official_releases_are_named() -> None:
    assert idx.MNIST.md5s["train-images-idx3-ubyte"][0] == "f68b3c2dcbeaaa9fbdd348bbdeb94873"
    assert idx.FASHION_MNIST.md5s["t10k-labels-idx1-ubyte"][0] == "bb300cfdad3c16e7a12a480ee83cd310"
    assert len(idx.CLOTHES) == 10
