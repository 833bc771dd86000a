"""A folder of images with times, calibration, ground truth and depth beside them."""

from collections.abc import Iterator
from pathlib import Path
import re

import numpy as np

from ..errors import InputError
from ..types import Frame, Trajectory
from .calibration import Calibration, read_calibration
from .frame_maker import FrameMaker
from .image_file import read_depth_mm, read_rgb, SUFFIXES
from .timestamps import read_timestamps
from .trajectory_file import read_tum

_DEFAULT_FPS = 10.0


class FolderSource:
    """Images of one folder in natural order (``9.png`` before ``10.png``).

    The layout; everything but the images may be absent::

        rgb/000000.png ...    or the images in the folder itself; PNG, JPEG, BMP, TIFF
        timestamps.txt        one time in seconds an image
        calib.json            fx fy cx cy [px], width, height, dist; see `calibration`
        gt_tum.txt            true poses, camera to world, metres, OpenCV axes
        depth/000000.png      true depth, 16 bit, millimetres, 0 = unmeasured

    Without ``timestamps.txt`` the images are ``fps`` a second (10 when not given). ``calibration``
    goes before ``calib.json``. All images must have one size. Raises ``InputError`` for whatever
    is missing, damaged or inconsistent.
    """

    def __init__(self, path: Path, fps: float | None = None,
                 calibration: Calibration | None = None):
        self._root = Path(path)
        self._files = _list_images(self._root)
        self.warnings: list[str] = []
        self._stamps_ns = self._read_stamps(fps)
        self._calibration, self._calibration_origin = calibration, 'the calibration given'
        calib = self._root / 'calib.json'
        if calibration is None and calib.is_file():
            self._calibration, self._calibration_origin = read_calibration(calib), str(calib)
        gt = self._root / 'gt_tum.txt'
        self._groundtruth = read_tum(gt) if gt.is_file() else None
        self._depth_files = _list_depth(self._root / 'depth', len(self._files))

    def __iter__(self) -> Iterator[Frame]:
        maker = FrameMaker(self._calibration, self._calibration_origin)
        for index, file in enumerate(self._files):
            yield maker.make(index, int(self._stamps_ns[index]), read_rgb(file), str(file))

    def __len__(self) -> int:
        return len(self._files)

    def describe(self) -> str:
        return f'{len(self._files)} images in {self._files[0].parent}'

    def groundtruth(self) -> Trajectory | None:
        return self._groundtruth

    def depth(self, index: int) -> np.ndarray | None:
        return read_depth_mm(self._depth_files[index]) if self._depth_files else None

    def _read_stamps(self, fps: float | None) -> np.ndarray:
        n, file = len(self._files), self._root / 'timestamps.txt'
        if not file.is_file():
            if fps is None:
                self.warnings.append(f'There is no timestamps.txt: {_DEFAULT_FPS:g} images a '
                                     'second are assumed; give the rate with --fps.')
            return _uniform_stamps(n, fps or _DEFAULT_FPS)
        if fps is not None:
            raise InputError(f'{file} gives the times already: leave out --fps')
        stamps = read_timestamps(file)
        if len(stamps) != n:
            raise InputError(f'{file} has {len(stamps)} times, but there are {n} images in '
                             f'{self._files[0].parent}: one time an image is needed')
        return stamps


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key that compares runs of digits as numbers."""
    parts = re.split(r'([0-9]+)', path.name.lower())
    return [(0, int(part), '') if part.isdecimal() else (1, 0, part) for part in parts if part]


def _uniform_stamps(n: int, fps: float) -> np.ndarray:
    return np.round(np.arange(n) * (1e9 / fps)).astype(np.int64)


def _list_images(root: Path) -> list[Path]:
    for folder in (root / 'rgb', root):
        files = _images_in(folder)
        if files:
            return files
    raise InputError(f'{root}: no images ({" ".join(SUFFIXES)}) in it or in its folder rgb')


def _list_depth(folder: Path, n_images: int) -> list[Path]:
    files = _images_in(folder)
    if files and len(files) != n_images:
        raise InputError(f'{folder} has {len(files)} depth images for {n_images} images: '
                         'complete it or remove it')
    return files


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir()
                   if path.suffix.lower() in SUFFIXES and not path.name.startswith('.')),
                  key=natural_key)
