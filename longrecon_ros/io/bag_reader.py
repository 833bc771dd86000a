"""Opening bags with `rosbags`, with its many errors turned into one kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import sqlite3
import struct
from typing import Any

from ..errors import BagError, MissingDependency

_FILE_SUFFIXES = ('.bag', '.mcap', '.db3')


def is_bag(path: Path) -> bool:
    """Tell by names alone if a path is a ROS 1 or ROS 2 bag, file or folder."""
    path = Path(path)
    return path.suffix in _FILE_SUFFIXES if path.is_file() else bool(_bag_files(path))


@contextmanager
def open_bag(path: Path) -> Iterator[Any]:
    """Open a bag and yield a `rosbags.highlevel.AnyReader`.

    Takes a ROS 1 ``.bag``, a ROS 2 folder (also one whose ``metadata.yaml`` is lost), or a bare
    ``.mcap`` or ``.db3``. Whatever goes wrong while reading inside the block is a `BagError`, too.

    Raises
    ------
    BagError
        The bag is missing, damaged, cut short, or holds no message.
    MissingDependency
        `rosbags` is not installed.

    """
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import get_typestore, Stores
    except ImportError:
        raise MissingDependency('reading bags needs the package rosbags: '
                                'pip install rosbags') from None
    path = Path(path)
    if not path.exists():
        raise BagError(f'{path}: there is no such bag')
    damage = (AnyReaderError, OSError, EOFError, KeyError, ValueError, AssertionError,
              struct.error, sqlite3.Error)
    try:
        files = [path] if path.is_file() or (path / 'metadata.yaml').is_file() else \
            _bag_files(path)
        with AnyReader(files, default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            if not reader.message_count:
                raise BagError(f'{path}: the bag is empty: there are no messages in it')
            yield reader
    except damage as error:
        raise BagError(f'{path}: the bag cannot be read, it is damaged or cut short '
                       f'({_one_line(error)}); try "ros2 bag reindex" or "mcap recover", for '
                       'ROS 1 "rosbag reindex"') from None


def _bag_files(folder: Path) -> list[Path]:
    """Return the storage files of a ROS 2 bag folder; none if the folder is no bag."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in ('.mcap', '.db3'))


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
