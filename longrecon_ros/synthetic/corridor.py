"""A long corridor whose pieces are all the same: no image tells how far one has come."""

from dataclasses import replace

import numpy as np

from .materials import courses, panels, picture, plain, wallpaper
from .scene import Scene, SceneBuilder

_TEXEL_M = 0.008
PIECE_M, N_PIECES = 4.0, 14
_WIDTH, _HEIGHT, EYE_M = 2.4, 2.6, 1.3
END_M = PIECE_M * (N_PIECES - 2)


def corridor_scene(seed: int) -> Scene:
    """Build the corridor along x from 0 on; every `PIECE_M` the same doors, pictures and tiles.

    The far end is a wall that comes close only beyond `END_M`.
    """
    builder, low, high = SceneBuilder(seed, _TEXEL_M), -_WIDTH / 2, _WIDTH / 2
    paper = wallpaper((208, 200, 184), (120, 110, 96))
    builder.wall((0.0, high), (PIECE_M, high), 0.0, _HEIGHT, paper)
    builder.wall((PIECE_M, low), (0.0, low), 0.0, _HEIGHT, paper)
    builder.floor(0.0, low, PIECE_M, high, 0.0, courses((150, 128, 104), (96, 84, 70), 0.4, 0.4))
    builder.box((0.9, high - 0.05, 0.0), (0.9, 0.1, 2.05), panels((112, 84, 60)), faces='xXyY')
    builder.box((2.9, high - 0.04, 1.2), (0.8, 0.08, 0.6), picture, faces='xXyYzZ')
    builder.box((3.2, low + 0.05, 0.0), (0.9, 0.1, 2.05), panels((96, 100, 108)), faces='xXyY')
    builder.box((1.4, low + 0.04, 1.1), (0.7, 0.08, 0.8), picture, faces='xXyYzZ')
    piece = builder.build()
    quads = [replace(quad, corner=quad.corner + [PIECE_M * k, 0.0, 0.0])
             for k in range(N_PIECES) for quad in piece.quads]
    end = SceneBuilder(seed + 1, _TEXEL_M)
    x = PIECE_M * N_PIECES
    end.wall((x, high), (x, low), 0.0, _HEIGHT, plain((180, 176, 168)))
    return Scene(tuple(quads) + end.build().quads, tuple(np.full(3, 60.0)))
