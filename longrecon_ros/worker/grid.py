"""The occupancy grid of the map as it is now, drawn in a thread of its own."""

import logging
from pathlib import Path
import threading
import time
from typing import Any, Callable, Dict, Optional

import numpy as np

from ..errors import LongreconError
from ..io.occupancy import draw_occupancy, FREE, OCCUPIED, UNKNOWN
from ..mapping.atlas import Atlas

_SHARE = 0.1                # of the time may go into grids
_LEAST_S = 2.0              # between two
_VALUES = np.full(256, -1, np.int8)
_VALUES[[FREE, OCCUPIED, UNKNOWN]] = 0, 100, -1

_log = logging.getLogger(__name__)


class GridMaker:
    """Draws grids when asked, one at a time and not too often; ``tell`` gets them as messages.

    Cells are int8 (-1 unknown, 0 free, 100 occupied), row 0 at the smallest y.
    """

    def __init__(self, resolution_m: float, tell: Callable[[Dict[str, Any]], None]):
        self._resolution_m, self._tell = resolution_m, tell
        self._thread: Optional[threading.Thread] = None
        self._not_before_s = float('-inf')

    def ask(self, atlas: Atlas, metres_per_unit: float, up: np.ndarray) -> None:
        """Draw the map unless it is too soon; ``up`` (3,) is in the map's camera axes."""
        is_busy = self._thread is not None and self._thread.is_alive()
        if is_busy or time.monotonic() < self._not_before_s or not len(atlas):
            return
        self._thread = threading.Thread(target=self._draw, args=(atlas, metres_per_unit, up),
                                        name='grid', daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the grid that is being drawn."""
        if self._thread is not None:
            self._thread.join()

    def _draw(self, atlas: Atlas, metres_per_unit: float, up: np.ndarray) -> None:
        start_s = time.monotonic()
        try:
            pixels, grid = draw_occupancy(Path('~/grid'), atlas.views(), self._resolution_m,
                                          metres_per_unit, up=up)
        except LongreconError as error:
            _log.warning('no grid: %s', error)
        else:
            self._tell({'kind': 'grid', 'cells': _VALUES[pixels][::-1].copy(),
                        'resolution_m': grid.resolution_m, 'T_grid_map': grid.T_grid_map,
                        'origin_m': list(grid.origin_m)})
        end_s = time.monotonic()
        self._not_before_s = end_s + max(_LEAST_S, (end_s - start_s) / _SHARE)
