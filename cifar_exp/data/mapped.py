"""Images that stay in a file: what takes more memory than it should is read when it is needed."""

from __future__ import annotations

import hashlib
import os
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt


class MappedImages:
    """Images of a memory-mapped file, selected by index.

    Indexing with a number, a slice or an array of indices reads those images into memory. They are read from the file,
    not from its mapping: the kernel maps several times as much as is touched there, all of which would count as memory
    of this process.

    Attributes:
        shape: (N, H, W, C).
        dtype: uint8.
    """

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8],
        digests: npt.NDArray[np.uint8],
        key: str,
        indices: npt.NDArray[np.intp],
        file: BinaryIO | None = None,
    ) -> None:
        """Select images.

        Args:
            pixels: (M, H, W, C) uint8, memory-mapped.
            digests: (M, 32) uint8, SHA-256 of what each image was made from.
            key: of what made the pixels of it.
            indices: (N,) in 0..M-1.
            file: that of the pixels, if it is open already. It can be read after it was removed.
        """
        self._pixels, self._digests, self._key, self._indices = pixels, digests, key, indices
        self._file = file or _opened(pixels)
        self.shape: tuple[int, ...] = (len(indices), *pixels.shape[1:])
        self.dtype = pixels.dtype

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, which: Any) -> npt.NDArray[np.uint8]:
        selected = np.asarray(self._indices[which])
        return self._read(selected.reshape(-1)).reshape(*selected.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """All images, read into memory."""
        return self._read(self._indices).astype(dtype or np.uint8, copy=False)

    def _read(self, selected: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        """Read images by their index in the file; neighbours at once."""
        if self._file is None:
            return np.take(self._pixels, selected, axis=0)
        images = np.empty((len(selected), *self.shape[1:]), np.uint8)
        size = int(np.prod(self.shape[1:]))
        content = images.reshape(-1).data
        starts = [0, *(np.flatnonzero(np.diff(selected) != 1) + 1).tolist(), len(selected)]
        for first, end in pairwise(starts):
            position, offset = first * size, int(selected[first]) * size if end else 0
            while position < end * size:
                count = os.preadv(self._file.fileno(), [content[position : end * size]], offset)
                if not count:
                    raise OSError(f"{self._file.name}: the file of decoded images is cut off")
                position, offset = position + count, offset + count
        return images

    @property
    def nbytes(self) -> int:
        """Bytes of the images."""
        return int(np.prod(self.shape))

    def take(self, indices: npt.NDArray[np.intp]) -> MappedImages:
        """Select images by index, without reading them."""
        return MappedImages(self._pixels, self._digests, self._key, self._indices[indices], self._file)

    @property
    def sha256(self) -> str:
        """SHA-256 of the contents that the images were made from, and of how."""
        digest = hashlib.sha256(f"{self._key} {self.shape}".encode())
        digest.update(np.take(self._digests, self._indices, axis=0).data)
        return digest.hexdigest()


def _opened(pixels: npt.NDArray[np.uint8]) -> BinaryIO | None:
    if not isinstance(pixels, np.memmap) or pixels.filename is None:
        return None
    try:
        return open(pixels.filename, "rb", buffering=0)
    except OSError:  # removed from the cache meanwhile; the mapping keeps the images
        return None


StoredImages = npt.NDArray[np.uint8] | MappedImages
"""Images (N, H, W, C) uint8, in memory or in a file."""
