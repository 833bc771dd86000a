"""Reader of a folder of parity fixtures: cases.json, keys_cases.json, case_*.npz, keys.json."""

from dataclasses import dataclass
import json
from pathlib import Path
import re
from typing import Dict, Mapping, Optional

import numpy as np

_VIEW = re.compile(r'@(?:c(\d+)|s(\d+)x(\d+)|s(\d+)|t(\d+)c(\d+)|f(\d+)s(\d+))$')


@dataclass(frozen=True)
class Case:
    """One case: its description, its arrays, and the folder they come from."""

    name: str
    about: Mapping
    arrays: Mapping[str, np.ndarray]
    folder: Path
    keys_folder: Path                       # of keys.json

    def tolerance(self, name: str) -> float:
        """Return the largest deviation allowed of an array; 0 when none is stated."""
        return float(self.about.get('tolerance_abs', {}).get(name, 0.0))


class Fixtures:
    """All cases of a folder. ``keys_folder`` has keys.json where the folder itself has none."""

    def __init__(self, folder: Path, keys_folder: Optional[Path] = None):
        self.folder = Path(folder)
        self.cases: Dict[str, Mapping] = _read(self.folder / 'cases.json')
        self._keys_folder = Path(keys_folder or folder)

    def case(self, name: str) -> Case:
        """Load one case."""
        about = self.cases[name]
        with np.load(self.folder / about['file']) as file:
            arrays = {key: file[key] for key in file.files}
        return Case(name, about, arrays, self.folder, self._keys_folder)

    def keys(self, name: str) -> Dict[str, tuple]:
        """Return {official key: shape} of the network of a case."""
        tag = self.cases[name]['keys']
        if tag.startswith('full:'):
            shapes = _read(self._keys_folder / 'keys.json')[tag[5:]]
        else:
            shapes = _read(self.folder / 'keys_cases.json')[tag]
        return {key: tuple(shape) for key, shape in shapes.items()}


def view(name: str, array: np.ndarray) -> np.ndarray:
    """Cut out of a full array the part that is stored under ``name``, by the name's suffix."""
    match = _VIEW.search(name)
    if not match:
        return array
    c, a, b, s, t, tc, f, fs = (int(group or 0) for group in match.groups())
    if c:
        return array[..., ::c]
    if a:
        return array[:, ::a, ::b]
    if s:
        return array[:, :, ::s, ::s]
    return array[:, :, ::t, ::tc] if t else array[::f, ::fs, ::fs]


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise SystemExit(f'{path}: there is no such file; give a folder of parity fixtures '
                         '(and --keys FOLDER for keys.json)') from None
