"""The grid that the worker draws of its map, of a known room."""

import logging

import numpy as np
from room_views import BOX, HEIGHT, ROOM, tour, views_at

from longrecon_ros.geometry import se3
from longrecon_ros.worker.grid import GridMaker


class Views:
    """As much of an atlas as a grid asks for."""

    def __init__(self, views):
        self._views = list(views)

    def __len__(self):
        return len(self._views)

    def views(self):
        """Yield the views."""
        yield from self._views


def drawn(views, metres_per_unit=1.0):
    """Return the messages that come of one request."""
    told = []
    maker = GridMaker(0.05, told.append)
    maker.ask(Views(views), metres_per_unit, np.array([0.0, -1.0, 0.0]))
    maker.wait()
    return maker, told


def test_a_room_is_free_its_walls_and_the_box_are_not_whatever_the_unit():
    for unit_m in (1.0, 0.4):
        _, (message,) = drawn(views_at(tour(), unit_m=unit_m), unit_m)
        cells, origin = message['cells'], message['origin_m']
        assert cells.dtype == np.int8 and set(np.unique(cells)) == {-1, 0, 100}
        x, y = np.meshgrid(*((np.arange(n) + 0.5) * 0.05 + origin[k]
                             for k, n in enumerate(cells.shape[::-1])))

        def inside(box, margin, x=x, y=y):
            return ((x > box[0, 0] - margin) & (x < box[1, 0] + margin)
                    & (y > box[0, 1] - margin) & (y < box[1, 1] + margin))

        floor = inside(ROOM, -0.1) & ~inside(BOX, 0.1)
        assert (cells[floor] == 0).mean() > 0.95 and not (cells[floor] == 100).any()
        assert (cells[~inside(ROOM, 0.1)] == -1).all()
        # the first camera is above the grid's origin, in metres
        camera = se3.apply(message['T_grid_map'], np.zeros((1, 3)))[0]
        assert np.allclose(camera, [0, 0, HEIGHT], atol=0.02)


def test_the_next_one_is_not_drawn_at_once():
    maker, told = drawn(views_at(tour()))
    maker.ask(Views(views_at(tour())), 1.0, np.array([0.0, -1.0, 0.0]))
    maker.wait()
    assert len(told) == 1


def test_no_map_no_grid_and_a_bad_one_is_told(caplog):
    assert drawn([])[1] == []
    with caplog.at_level(logging.WARNING):
        _, told = drawn(views_at(tour()), 1e9)
    assert told == [] and 'no grid' in caplog.text
