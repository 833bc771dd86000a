"""A bag that is filmed once and kept as long as it is intact and the recipe is the same."""

import json
from pathlib import Path
import shutil
from typing import Callable, Optional

import yaml

from ..errors import BagError, InputError
from ..io.bag_reader import open_bag
from .bag_writer import CUSTOM_DATA_KEY, write_bag
from .recipe import Production, Recipe


def ensure_bag(path: Path, recipe: Recipe, progress: Callable[[int], None]) -> bool:
    """Film a raw mcap bag unless ``path`` holds the same recording; tell if it was filmed.

    A recording of another recipe, or a damaged one, is replaced. ``progress`` is called with the
    number of frames done. Raises ``InputError`` when ``path`` holds something else.
    """
    path = Path(path)
    notes = _notes(path)
    if notes == json.loads(json.dumps(recipe.as_dict())) and _is_readable(path):
        return False
    if notes is None and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f'{path} is in the way, and no synthetic recording: remove it, or choose '
                         'another folder')
    production = Production.of(recipe)
    if notes is not None:
        shutil.rmtree(path)
    write_bag(path, production.film, production.world.T_base_camera, production.n_frames,
              notes=recipe.as_dict(), progress=progress)
    return True


def _notes(path: Path) -> Optional[dict]:
    """Return the recipe in the metadata of a recording of ours; None if it is not one."""
    try:
        metadata = yaml.safe_load((path / 'metadata.yaml').read_text(encoding='utf-8'))
        return json.loads(metadata['rosbag2_bagfile_information']['custom_data'][CUSTOM_DATA_KEY])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def _is_readable(path: Path) -> bool:
    """Read every message of a bag."""
    try:
        with open_bag(path) as reader:
            return sum(1 for _ in reader.messages()) == reader.message_count
    except BagError:
        return False
