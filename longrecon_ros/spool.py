"""Frames of a whole recording that lie in a file: for methods that need all of them at once."""

import hashlib
from pathlib import Path
from typing import BinaryIO, List, Optional, Tuple

import numpy as np

from .errors import InputError
from .types import Frame

_Meta = Tuple[int, int, Optional[np.ndarray]]           # index, stamp_ns, K


class FrameSpool:
    """Writes images of one size into a file as they come, and gives them back mapped from it.

    Of the frames nothing but stamps and intrinsics stays in memory. Use as a context manager.
    Raises ValueError for an image of another size, and InputError where the disk is full.
    """

    def __init__(self, path: Path):
        self._path = Path(path)
        self._stream: Optional[BinaryIO] = None
        self._shape: Optional[Tuple[int, ...]] = None
        self._metas: List[_Meta] = []
        self._hash = hashlib.blake2b(digest_size=16)

    def __enter__(self) -> 'FrameSpool':
        self._stream = self._path.open('wb')
        return self

    def __exit__(self, *problem) -> None:
        self._stream.close()

    def add(self, frame: Frame) -> None:
        """Take a frame, rectified and of its final size."""
        shape = frame.image.shape
        if self._shape is None:
            self._shape = shape
        if shape != self._shape:
            raise ValueError(f'frame.image: expected {self._shape}, as before, got {shape}')
        image = np.ascontiguousarray(frame.image)
        try:
            self._stream.write(image)
        except OSError as error:
            raise InputError(f'{self._path} cannot be written ({error.strerror}): make room, or '
                             'choose another folder') from None
        self._metas.append((frame.index, frame.stamp_ns, frame.K))
        self._hash.update(image)
        K = b'' if frame.K is None else frame.K.tobytes()
        self._hash.update(np.array([frame.index, frame.stamp_ns], np.int64).tobytes() + K)

    def frames(self) -> List[Frame]:
        """Return all frames so far, in their order; their images are read when they are used."""
        if not self._metas:
            return []
        self._stream.flush()
        images = np.memmap(self._path, np.uint8, 'r', shape=(len(self._metas), *self._shape))
        return [Frame(index, stamp_ns, images[i], K)
                for i, (index, stamp_ns, K) in enumerate(self._metas)]

    def digest(self) -> str:
        """Return what all frames so far are, as a hash."""
        return self._hash.hexdigest()
