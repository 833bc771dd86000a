"""The memory of a process."""

import os
from pathlib import Path
from typing import Union


def resident_mb(pid: Union[int, str] = 'self') -> float:
    """Return what a process has in RAM now, MB (Linux); OSError when it is gone."""
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6
