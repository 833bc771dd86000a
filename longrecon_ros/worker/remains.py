"""Shared memory that dead processes have left behind.

Fast DDS keeps a file of its segment in /dev/shm; a process that is killed cannot remove it. Each
segment has a lock file: who can take the lock knows that the owner is gone (`fastdds shm clean`
goes by the same rule).
"""

import fcntl
import os
from pathlib import Path
from typing import List

_FOLDER = Path('/dev/shm')


def remove_dead_segments(folder: Path = _FOLDER) -> List[str]:
    """Remove the Fast DDS segments of dead processes of this user; return their names."""
    removed = []
    for lock in sorted(folder.glob('fastrtps_*_el')):
        if _is_free(lock):
            name = lock.name[:-len('_el')]
            for path in (folder / name, lock, folder / f'sem.{name}_mutex'):
                path.unlink(missing_ok=True)
            removed.append(name)
    return removed


def _is_free(lock: Path) -> bool:
    """Say whether nobody holds a lock file of ours."""
    try:
        if lock.stat().st_uid != os.getuid():
            return False
        with lock.open('r+b') as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
