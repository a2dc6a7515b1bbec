"""Filling the cache: a pool of processes decodes, each image once on a machine."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cifar_exp import console, exits
from cifar_exp.data import cache
from cifar_exp.data.decoding import BadImage, Decoder
from cifar_exp.errors import UserError

log = logging.getLogger(__name__)

Source = Path | bytes | npt.NDArray[np.uint8]

_BLOCK = 64  # images that a process decodes at a time
_FEW = 512  # images that this process decodes itself: starting others takes longer
_SAVE_SECONDS, _SAY_SECONDS = 0.5, 10.0

OTHER_SIZE = "the first image has"


def entry(
    key: str,
    sources: Callable[[], Iterable[Source]],
    shape: tuple[int, int, int, int],
    decoder: Decoder,
    source: str = "",
) -> cache.Entry:
    """Get an entry of the cache, decoding what it lacks.

    Processes that need the same entry wait for the one that decodes.

    Args:
        key: a hash of what decides the pixels: contents, order and decoder.
        sources: gives the images, in their order.
        shape: (N, H, W, C) of all pixels.
        decoder: gives (H, W, C) for each image. An image that has another shape is bad.
        source: the folder or file of the images, for the list of the cache.

    Raises:
        UserError: if the cache cannot be written, or if the disk or its limit has no room for the pixels.
    """
    if found := cache.find(key):
        return found
    with cache.locked(key):
        if found := cache.find(key):  # by the process that had the lock
            return found
        _fill(cache.Partial(key, shape, source), sources(), decoder)
    found = cache.find(key)
    if found is None:
        raise UserError(f"{cache.folder()}: the images that were just decoded have been removed; start again")
    return found


def _fill(partial: cache.Partial, sources: Iterable[Source], decoder: Decoder) -> None:
    images = partial.shape[0]
    missing = images - len(partial.done) * _BLOCK
    log.info("decoding %s images into %s", f"{max(missing, 0):,}", cache.folder())
    saved = said = time.monotonic()
    saving: Future[None] | None = None
    with ThreadPoolExecutor(1) as thread:  # a slow disk must not keep the workers waiting
        try:
            for block, digests, bad in _decoded(partial, _blocks(sources, partial.done), decoder):
                partial.add(block, block * _BLOCK, digests, bad)
                partial.done.add(block)
                now = time.monotonic()
                if now - saved > _SAVE_SECONDS and (saving is None or saving.done()):
                    if saving:
                        saving.result()
                    saving, saved = thread.submit(partial.save, partial.noted()), now
                if now - said > _SAY_SECONDS:
                    said = now
                    console.say(f"decoded {min(len(partial.done) * _BLOCK, images):,} of {images:,} images")
            if saving:
                saving.result()
            partial.finish()
        except OSError as error:
            thread.shutdown()
            partial.close()
            raise partial.refused(error) from error
        except BaseException:
            thread.shutdown()
            partial.save(partial.noted())  # what is decoded need not be decoded again
            partial.close()
            raise


def _blocks(sources: Iterable[Source], done: set[int]) -> Iterator[tuple[int, list[Source]]]:
    iterator, block = iter(sources), 0
    while images := list(islice(iterator, _BLOCK)):
        if block not in done:
            yield block, images
        block += 1


_Decoded = tuple[int, bytes, dict[int, str]]  # block, digests, reasons of bad images


def _decoded(
    partial: cache.Partial, blocks: Iterator[tuple[int, list[Source]]], decoder: Decoder
) -> Iterator[_Decoded]:
    """Decode blocks, in this process if they are few. They come in the order in which they are ready."""
    pixels, image_shape = partial.folder / cache.PIXELS, partial.shape[1:]
    workers = len(os.sched_getaffinity(0))
    if workers == 1 or partial.shape[0] - len(partial.done) * _BLOCK < _FEW:
        for block, images in blocks:
            yield _decode(pixels, block, images, decoder, image_shape)
        return
    # A fork is not safe beside the threads of TensorFlow.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, initializer=_begin)
    try:
        running: set[Future[_Decoded]] = set()
        for block, images in blocks:
            running.add(pool.submit(_decode, pixels, block, images, decoder, image_shape))
            if len(running) >= 3 * workers:
                ready, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ready)
        yield from (future.result() for future in running)
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Let a worker end with its parent, and only with it."""
    exits.ignore_group_signals()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _decode(pixels: Path, block: int, images: list[Source], decoder: Decoder, image_shape: tuple[int, ...]) -> _Decoded:
    """Decode a block and write its pixels to their place in the file."""
    size = int(np.prod(image_shape))
    digests, bad = [], {}
    with pixels.open("r+b", buffering=0) as file:
        for number, source in enumerate(images, block * _BLOCK):
            digest = bytes(32)
            try:
                content = _content(source)
                digest = hashlib.sha256(content).digest()
                decoded = decoder.decode(source if isinstance(source, np.ndarray) else content)
                if decoded.shape != image_shape:
                    got, expected = (f"{shape[1]} x {shape[0]} pixels" for shape in (decoded.shape, image_shape))
                    raise BadImage(f"{got}, {OTHER_SIZE} {expected}")
            except (BadImage, OSError) as error:
                decoded = np.zeros(image_shape, np.uint8)
                bad[number] = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            digests.append(digest)
            os.pwrite(file.fileno(), decoded.data, number * size)
    return block, b"".join(digests), bad


def _content(source: Source) -> bytes:
    if isinstance(source, Path):
        return source.read_bytes()
    return source if isinstance(source, bytes) else source.tobytes()
