"""Images in memory that two processes share, with no name that could outlive them."""

import mmap
import os
from typing import Tuple

import numpy as np

SLOT_BYTES = 48 << 20       # RGB of 4096x4096; only what images touch takes memory


class Ring:
    """``n_slots`` places for RGB images; who writes and reads which one is up to the caller.

    The memory is an anonymous file (memfd): it is gone when the last process that has it open is
    gone, whatever that one died of.
    """

    def __init__(self, fd: int, n_slots: int):
        self.fd, self.n_slots = fd, n_slots
        self._map = mmap.mmap(fd, n_slots * SLOT_BYTES)

    @classmethod
    def create(cls, n_slots: int) -> 'Ring':
        """Return a new one."""
        fd = os.memfd_create('longrecon_images', os.MFD_CLOEXEC)
        os.ftruncate(fd, n_slots * SLOT_BYTES)
        return cls(fd, n_slots)

    def write(self, slot: int, image: np.ndarray) -> None:
        """Copy an (H, W, 3) uint8 image into a slot; ValueError when it is too large."""
        if image.nbytes > SLOT_BYTES:
            raise ValueError(f'image: {image.shape[1]}x{image.shape[0]} px is more than the '
                             f'{SLOT_BYTES >> 20} MB that an image may have')
        self._view(slot, image.shape)[...] = image

    def read(self, slot: int, shape: Tuple[int, ...]) -> np.ndarray:
        """Return a copy of the image of a slot."""
        return self._view(slot, tuple(shape)).copy()

    def close(self) -> None:
        """Let go of the memory."""
        self._map.close()
        os.close(self.fd)

    def _view(self, slot: int, shape: Tuple[int, ...]) -> np.ndarray:
        if not 0 <= slot < self.n_slots:
            raise ValueError(f'slot: expected 0 to {self.n_slots - 1}, got {slot}')
        return np.frombuffer(self._map, np.uint8, int(np.prod(shape)),
                             slot * SLOT_BYTES).reshape(shape)
