"""Images that stay in a file: what takes more memory than it should is read when it is needed."""

from __future__ import annotations

import hashlib
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

# The pages that a process has read count as its memory until they are released, which this many bytes are worth.
_RELEASE_BYTES = 1 << 27


class MappedImages:
    """Images of a memory-mapped file, selected by index.

    Indexing with a number, a slice or an array of indices reads those images into memory.

    Attributes:
        shape: (N, H, W, C).
        dtype: uint8.
    """

    def __init__(
        self, pixels: npt.NDArray[np.uint8], digests: npt.NDArray[np.uint8], key: str, indices: npt.NDArray[np.intp]
    ) -> None:
        """Select images.

        Args:
            pixels: (M, H, W, C) uint8, memory-mapped.
            digests: (M, 32) uint8, SHA-256 of what each image was made from.
            key: of what made the pixels of it.
            indices: (N,) in 0..M-1.
        """
        self._pixels, self._digests, self._key, self._indices = pixels, digests, key, indices
        self._read = 0
        self.shape: tuple[int, ...] = (len(indices), *pixels.shape[1:])
        self.dtype = pixels.dtype

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, which: Any) -> npt.NDArray[np.uint8]:
        selected = self._indices[which]
        images: npt.NDArray[np.uint8] = np.take(self._pixels, selected, axis=0)
        self._read += images.nbytes
        if self._read > _RELEASE_BYTES:
            self._read = 0
            mapped = getattr(self._pixels, "_mmap", None)
            if isinstance(mapped, mmap.mmap):
                mapped.madvise(mmap.MADV_DONTNEED)
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """All images, read into memory."""
        return np.take(self._pixels, self._indices, axis=0).astype(dtype or np.uint8, copy=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the images."""
        return int(np.prod(self.shape))

    def take(self, indices: npt.NDArray[np.intp]) -> MappedImages:
        """Select images by index, without reading them."""
        return MappedImages(self._pixels, self._digests, self._key, self._indices[indices])

    @property
    def sha256(self) -> str:
        """SHA-256 of the contents that the images were made from, and of how."""
        digest = hashlib.sha256(f"{self._key} {self.shape}".encode())
        digest.update(np.take(self._digests, self._indices, axis=0).data)
        return digest.hexdigest()


StoredImages = npt.NDArray[np.uint8] | MappedImages
"""Images (N, H, W, C) uint8, in memory or in a file."""
