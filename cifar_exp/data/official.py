"""Official releases of data sets: locating, downloading and verifying their files."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import platformdirs

from cifar_exp.data.schema import user_path
from cifar_exp.errors import UserError, reason

log = logging.getLogger(__name__)


class Files(NamedTuple):
    """A folder that holds all files of a data set.

    Attributes:
        folder: contains the files.
        source: URL of the official release, otherwise the path and how the copy differs.
    """

    folder: Path
    source: str


class Release(Protocol):
    """The official release of a data set. Its implementations are `Archive` and `IdxRelease`."""

    @property
    def title(self) -> str:
        """Name of the data set in messages."""

    @property
    def url(self) -> str:
        """Address of the release, which a run records as the source of its images."""

    @property
    def size(self) -> str:
        """Size of the download: `162 MB`."""

    @property
    def folder(self) -> str:
        """Name of the folder of the files, below the data folder."""

    def find(self, directory: str | None, verify: str) -> Files:
        """Locate the files, and download them first if necessary."""

    def is_available(self, directory: str | None) -> bool:
        """Whether `find` can return without a download."""

    def names(self, folder: Path) -> list[str]:
        """Names of the files in this folder that `find` needs to find them again in another one."""


def data_folder(directory: str | None) -> Path:
    """The data folder: `data.dir`, else $CIFAR_EXP_DATA, else the user's cache folder.

    Raises:
        UserError: if `data.dir` begins with `~` and there is no such home folder.
    """
    if directory:
        return user_path(directory, "dir")
    return Path(os.environ.get("CIFAR_EXP_DATA") or platformdirs.user_cache_path("cifar_exp"))


def md5(path: Path) -> str:
    """MD5 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def download(urls: Sequence[str], known_md5: str, folder: Path, title: str, size: str, instead: str) -> Path:
    """Download a file from the first of these addresses that has it; it takes its name only once its MD5 is right.

    Args:
        urls: addresses of the same file.
        known_md5: of the file.
        folder: of the downloaded file; it is created.
        title: of the data set, for messages.
        size: of the file, for messages.
        instead: what else the user can do, for the error message.

    Returns:
        The path of the file, under the last part of its address.

    Raises:
        UserError: if no address has the file with this MD5.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    name = urls[0].rpartition("/")[2]
    problem: Exception | None = None
    is_new = not folder.exists()
    for url in urls:
        log.info("%s is not in %s: downloading %s (%s)", title, folder, url, size)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pooch.retrieve(
                url,
                known_hash=f"md5:{known_md5}",
                fname=name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=30),
            )
            return folder / name
        except (OSError, ValueError) as error:  # OSError covers the errors of requests; ValueError is a wrong MD5
            problem = error
    assert problem is not None
    if is_new:
        with suppress(OSError):
            folder.rmdir()  # its name may be a typo
    where = f"{title} is not in {folder}, and {urls[-1]} could not be downloaded ({reason(problem)})"
    raise UserError(f"{where}; {instead}; data=digits needs none") from None
