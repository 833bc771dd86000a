"""The memory of this process."""

import os
from pathlib import Path


def resident_mb() -> float:
    """Return what is in RAM now, MB (Linux)."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6
