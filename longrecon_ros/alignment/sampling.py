"""Which samples stand for all, where there are more than are needed."""

import numpy as np


def evenly(n: int, limit: int) -> np.ndarray:
    """Return positions (min(n, limit),) i64 out of n, evenly spread, in order."""
    if n <= limit:
        return np.arange(n)
    return (np.arange(limit) * (n / limit)).astype(np.int64)
