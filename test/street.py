"""A short drive down a street, as tests of the node and of its parts have it."""

from typing import List

import numpy as np

from longrecon_ros.geometry import se3
from longrecon_ros.synthetic.recipe import Production, Recipe
from longrecon_ros.types import Frame


def street(n: int) -> Production:
    """Return the production of so many images, 320 x 240."""
    return Production.of(Recipe('street', n_frames=n, size=(320, 240)))


def frames_of(production: Production) -> List[Frame]:
    """Return all its frames."""
    return [production.film.frame(i).to_frame() for i in range(production.n_frames)]


def true_base(production: Production, i: int) -> np.ndarray:
    """Return T_odom_base (4, 4), m, at an image: odom is where the base was at the first one."""
    E = production.world.T_base_camera
    film = production.film
    return E @ se3.relative(film.pose(0), film.pose(i)) @ se3.inverse(E)
