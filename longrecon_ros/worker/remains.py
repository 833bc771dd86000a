"""Shared memory that dead processes have left behind.

Fast DDS keeps a file of its segment in /dev/shm; a process that is killed cannot remove it. Each
segment has a lock file: who can take the lock knows that the owner is gone (`fastdds shm clean`
goes by the same rule).
"""

from contextlib import suppress
import fcntl
import os
from pathlib import Path
import re
from typing import List, Set

_FOLDER = Path('/dev/shm')
_LOCK = re.compile(r'^/dev/shm/(fastrtps_[0-9a-f]{16})_el$')


def dead_segments(folder: Path = _FOLDER) -> List[str]:
    """Return the names of the Fast DDS segments of dead processes of this user."""
    return [lock.name[:-len('_el')] for lock in sorted(folder.glob('fastrtps_*_el'))
            if _is_free(lock)]


def owned_segments(pid: int) -> Set[str]:
    """Return the names of the Fast DDS segments of a living process: it has their locks open."""
    names = set()
    for link in Path(f'/proc/{pid}/fd').iterdir():
        with suppress(OSError):             # closed meanwhile
            names.update(_LOCK.findall(os.readlink(link)))
    return names


def remove_dead_segments(folder: Path = _FOLDER) -> List[str]:
    """Remove the Fast DDS segments of dead processes of this user; return their names."""
    names = dead_segments(folder)
    for name in names:
        for file in (name, f'{name}_el', f'sem.{name}_mutex'):
            (folder / file).unlink(missing_ok=True)
    return names


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
