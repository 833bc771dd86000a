"""A long wall that is blank in the middle: a stretch without texture, for tests of loss."""

from .materials import blank, courses, picture, wallpaper
from .scene import Scene, SceneBuilder

_TEXEL_M = 0.006
_HEIGHT = 4.0
_COLOR = (226, 224, 218)
BLANK_FROM_M, BLANK_TO_M, END_M = 8.0, 14.0, 22.0
DISTANCE_M, EYE_M = 1.2, 1.6


def wall_scene(seed: int) -> Scene:
    """Build the wall at y = 0 from x = -4 to `END_M`, seen from negative y.

    Between `BLANK_FROM_M` and `BLANK_TO_M` it has one even colour; a camera `DISTANCE_M` away
    sees nothing else for a while.
    """
    builder = SceneBuilder(seed, _TEXEL_M)
    paper = wallpaper((214, 200, 176), (120, 96, 80))
    floor = courses((150, 130, 110), (90, 80, 70), 0.3, 0.3)
    for low, high in ((-4.0, BLANK_FROM_M), (BLANK_TO_M, END_M)):
        builder.wall((low, 0), (high, 0), 0.0, _HEIGHT, paper)
        builder.floor(low, -4.0, high, 0.0, 0.0, floor)
        x = low + 0.4
        while x < high - 1.2:
            width, top = builder.rng.uniform(0.5, 1.0), builder.rng.uniform(1.7, 2.6)
            builder.box((x + width / 2, -0.12, top - 0.8), (width, 0.24, 0.8), picture,
                        faces='xXyzZ')
            x += width + builder.rng.uniform(0.3, 0.6)
    builder.wall((BLANK_FROM_M, 0), (BLANK_TO_M, 0), 0.0, _HEIGHT, blank(_COLOR))
    builder.floor(BLANK_FROM_M, -4.0, BLANK_TO_M, 0.0, 0.0, blank(_COLOR))
    return builder.build()
