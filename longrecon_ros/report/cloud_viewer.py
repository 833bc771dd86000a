"""The map as a cloud that the reader turns with the mouse; plain canvas, no library."""

import base64
from importlib import resources
import json

import numpy as np

from .splat import Scene

MAX_POINTS = 64_000
_LEVELS = 65_535


def viewer_html(scene: Scene) -> str:
    """Return a canvas and its script for a scene; empty for an empty map.

    Positions are sent as 16-bit shares of the bounding box, colours as bytes.
    """
    if not len(scene.points):
        return ''
    keep = np.random.default_rng(0).permutation(len(scene.points))[:MAX_POINTS]
    points = scene.points[keep].astype(np.float64)
    low = np.minimum(points.min(axis=0), scene.path.min(axis=0))
    step = max(float((np.maximum(points.max(axis=0), scene.path.max(axis=0)) - low).max()), 1e-9) \
        / _LEVELS
    path = scene.path[np.unique(np.linspace(0, len(scene.path) - 1, 2000).round().astype(int))]
    data = {'points': _packed((points - low) / step), 'path': _packed((path - low) / step),
            'colors': _base64(scene.colors[keep])}
    script = resources.files(__package__).joinpath('viewer.js').read_text(encoding='utf-8')
    return ('<canvas id="cloud" aria-label="Map: drag to turn, wheel to zoom"></canvas>'
            f'<script>const CLOUD = {json.dumps(data)};\n{script}</script>')


def _packed(shares: np.ndarray) -> str:
    return _base64(np.round(shares).astype('<u2'))


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode('ascii')
