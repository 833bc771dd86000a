"""What `torchrun` tells the processes that it has started; needs no torch."""

import os
from typing import Tuple


def rank_and_size() -> Tuple[int, int]:
    """Return the number of this process, and of how many; (0, 1) without torchrun."""
    return int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))


def local_rank() -> int:
    """Return the number of this process among those on this machine; 0 without torchrun."""
    return int(os.environ.get('LOCAL_RANK', 0))
