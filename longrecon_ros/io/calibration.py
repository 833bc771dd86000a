"""The calibration of a camera, and its JSON file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

_MODELS = ('plumb_bob', 'rational_polynomial', 'equidistant')
_ALIASES = {'': 'plumb_bob', 'radtan': 'plumb_bob', 'fisheye': 'equidistant'}


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A pinhole camera with OpenCV distortion; ``distortion`` is None when there is none."""

    K: np.ndarray                           # (3, 3) f64 px
    distortion: np.ndarray | None = None     # (n,) f64
    distortion_model: str = 'plumb_bob'
    size: tuple[int, int] | None = None      # (width, height) px that K belongs to


def size_text(size: tuple[int, int]) -> str:
    """Return a size (width, height) for a sentence."""
    return f'{size[0]}x{size[1]} px'


def make_calibration(K: Sequence[float], distortion: Sequence[float], model: str,
                     size: tuple[int, int] | None, origin: str) -> Calibration:
    """Check numbers that came from a file or a message and make a `Calibration` of them.

    ``K`` holds nine numbers, row by row. All-zero coefficients mean no distortion, but for
    ``equidistant`` (a fisheye all the same). ``origin`` says in errors where the numbers are from.
    Raises ``InputError``.
    """
    matrix = np.asarray(K, dtype=np.float64).reshape(3, 3)
    coefficients = np.asarray(distortion, dtype=np.float64).reshape(-1)
    if not np.isfinite(matrix).all():
        raise InputError(f'{origin}: the intrinsics hold NaN or infinity; correct or remove them '
                         '(without any, K is estimated)')
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise InputError(f'{origin}: focal lengths must be positive, got fx {matrix[0, 0]:g}, '
                         f'fy {matrix[1, 1]:g}')
    if not np.isfinite(coefficients).all():
        raise InputError(f'{origin}: the distortion coefficients hold NaN or infinity')
    model = _ALIASES.get(model, model)
    if not coefficients.any() and model != 'equidistant':
        return Calibration(matrix, None, 'plumb_bob', size)
    if model not in _MODELS:
        raise InputError(f'{origin}: the distortion model "{model}" is not known; '
                         f'known are {", ".join(_MODELS)}')
    return Calibration(matrix, coefficients, model, size)


def read_calibration(path: Path) -> Calibration:
    """Read a ``calib.json``: fx, fy, cx, cy [px], and as wanted width, height [px], dist.

    ``dist`` holds k1 k2 p1 p2 [k3] (plumb_bob); eight numbers mean rational_polynomial;
    ``distortion_model`` names another one. Raises ``InputError`` naming the file and the entry.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from None
    except ValueError as error:
        raise InputError(f'{path}: not valid JSON ({error})') from None
    if not isinstance(content, dict):
        raise InputError(f'{path}: expected an object with fx, fy, cx and cy')
    fx, fy, cx, cy = (_number(path, content, name) for name in ('fx', 'fy', 'cx', 'cy'))
    dist = content.get('dist') or []
    if not isinstance(dist, list):
        raise InputError(f'{path}: dist must be a list of numbers, got {dist!r}')
    dist = [_number(path, dict(enumerate(dist)), i) for i in range(len(dist))]
    size = None
    if 'width' in content and 'height' in content:
        size = (int(_number(path, content, 'width')), int(_number(path, content, 'height')))
    model = content.get('distortion_model') or \
        ('rational_polynomial' if len(dist) == 8 else 'plumb_bob')
    return make_calibration([fx, 0, cx, 0, fy, cy, 0, 0, 1], dist, model, size, str(path))


def _number(path: Path, content: Mapping[Any, Any], name: Any) -> float:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        label = f'dist[{name}]' if isinstance(name, int) else name
        raise InputError(f'{path}: {label} must be a number, got {value!r}')
    return float(value)
