"""A data set that is released as one tar archive: download, verify, unpack."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cifar_exp.data.official import Files, data_folder, download, md5
from cifar_exp.errors import UserError

CHECKSUMS = "md5sums.txt"  # of the unpacked files, written when they are unpacked from the verified archive


@dataclass(frozen=True)
class Archive:
    """An archive and the files in it.

    Attributes:
        title: of the data set.
        url: of the archive.
        md5: of the archive.
        folder: that the archive holds.
        files: name of each file in that folder -> its size in bytes.
        size: of the archive, for messages.
    """

    title: str
    url: str
    md5: str
    folder: str
    files: Mapping[str, int]
    size: str

    @property
    def name(self) -> str:
        """File name of the archive."""
        return self.url.rpartition("/")[2]

    def find(self, directory: str | None, verify: str) -> Files:
        """Locate the files, and download or unpack them first if necessary.

        Args:
            directory: contains the folder of the files or their archive, or is that folder itself. `None` selects
                $CIFAR_EXP_DATA or the cache folder. Missing files are downloaded into it.
            verify: `"md5"` refuses any file that differs from the official release; `"size"` only checks file sizes.

        Returns:
            The folder with the files, and their source.

        Raises:
            UserError: if a file is missing, truncated or altered, or if the download fails.
        """
        root = data_folder(directory)
        unpacked = self._unpacked(root)
        if unpacked is None:
            archive = root / self.name
            archive_existed = archive.exists()
            if not archive_existed:
                download([self.url], self.md5, root, self.title, self.size, self._instead())
            unpacked = self._unpack(archive)
            if not archive_existed:
                archive.unlink(missing_ok=True)
        for name, size in self.files.items():
            _check_size(unpacked / name, size)
        altered = self._altered(unpacked)
        if altered is None:
            return Files(unpacked, self.url)
        if verify == "md5":
            raise UserError(
                f"{altered}; put {self.name} from {self.url} into {root} after removing {unpacked}, or use this copy "
                f"knowingly with data.verify=size"
            )
        return Files(unpacked, f"{unpacked} (not the official release: {altered})")

    def is_available(self, directory: str | None) -> bool:
        """Whether `find` can return without a download: the folder holds the files or their archive."""
        root = data_folder(directory)
        return self._unpacked(root) is not None or (root / self.name).exists()

    def names(self, folder: Path) -> list[str]:
        """Names of the files in this folder, with their checksums if they are there."""
        return [name for name in (*self.files, CHECKSUMS) if (folder / name).exists()]

    def _instead(self) -> str:
        return (
            f"put {self.name} or the unpacked {self.folder} there, or name its folder with data.dir or CIFAR_EXP_DATA"
        )

    def _unpacked(self, root: Path) -> Path | None:
        """Return the first candidate folder that holds at least one of the files, or `None`."""
        candidates = (root / self.folder, root)
        return next((folder for folder in candidates if any((folder / name).exists() for name in self.files)), None)

    def _altered(self, folder: Path) -> str | None:
        """Describe how the files differ from the official release; `None` if all of them match it."""
        checksums = folder / CHECKSUMS
        if not checksums.exists():
            return f"{folder} was not unpacked from the verified {self.name}"
        lines = map(str.split, checksums.read_text(errors="replace").splitlines())
        expected = {line[1]: line[0] for line in lines if len(line) == 2}
        for name in self.files:
            if name not in expected:
                return f"{checksums} is damaged: it does not have the MD5 of {name}"
            if md5(folder / name) != expected[name]:
                return f"{folder / name} differs from the official release (MD5)"
        return None

    def _unpack(self, archive: Path) -> Path:
        """Verify the archive and unpack it into its own folder, completely or not at all."""
        if (found := md5(archive)) != self.md5:
            raise UserError(f"{archive}: MD5 {found}, expected {self.md5}; remove it to have it downloaded again")
        target = archive.parent / self.folder
        try:
            with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpacking-") as temporary:
                folder = Path(temporary) / self.folder
                folder.mkdir(parents=True)
                wanted = {f"{self.folder}/{name}": folder / name for name in self.files}
                with tarfile.open(archive) as tar:  # not `extractall`: before Python 3.11.4 it has no filter
                    for member in tar:
                        if member.name in wanted and (content := tar.extractfile(member)):
                            with content, wanted[member.name].open("wb") as file:
                                shutil.copyfileobj(content, file)
                sums = [f"{md5(folder / name)}  {name}\n" for name in self.files]
                (folder / CHECKSUMS).write_text("".join(sums))
                folder.rename(target)
        except OSError as error:
            if not target.exists():  # otherwise another process has unpacked it in the meantime
                raise UserError(f"{archive} could not be unpacked into {archive.parent}: {error}") from None
        return target


def _check_size(path: Path, expected: int) -> None:
    if not path.exists():
        raise UserError(f"{path}: missing; remove {path.parent} to have it unpacked or downloaded again")
    if (size := path.stat().st_size) != expected:
        raise UserError(
            f"{path}: {size:,} bytes, expected {expected:,}; remove {path.parent} to have it downloaded again"
        )
