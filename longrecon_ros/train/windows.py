"""Where the windows of a sequence lie."""

from typing import List


def windows_of(n_frames: int, window: int, overlap: int) -> List[slice]:
    """Return the frames of full windows, of which each shares ``overlap`` with the one before.

    Raises ValueError when frames are left over.
    """
    stride = window - overlap
    if n_frames < window or (n_frames - window) % stride:
        raise ValueError(f'n_frames: expected {window} and a multiple of {stride} more, got '
                         f'{n_frames}')
    return [slice(start, start + window) for start in range(0, n_frames - window + 1, stride)]
