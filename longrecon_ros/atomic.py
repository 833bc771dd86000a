"""Files and folders that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import secrets
import shutil
from typing import BinaryIO

from .errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of ``path`` when the block ends without an error.

    The bytes go to a temporary file in the same folder, are synced to the disk, and are renamed:
    a reader sees the old file or the new one. On an error the temporary file is removed.
    """
    path = Path(path)
    partial = _partial_name(path.parent, path.name)
    try:
        with partial.open('xb') as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as stream:
        stream.write(text.encode('utf-8'))


def check_output_folder(path: Path, force: bool) -> None:
    """Refuse an output folder before any work is done for it; nothing is created.

    Raises
    ------
    InputError
        The path is a file, cannot be written to, or holds files already and ``force`` is False.

    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f'{path} is a file, not a folder: choose another --out')
    if path.is_dir() and any(path.iterdir()) and not force:
        raise InputError(f'{path} is not empty: choose another --out, or add --force to replace '
                         'the result files in it')
    anchor = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
    if not anchor.is_dir() or not os.access(anchor, os.W_OK | os.X_OK):
        raise InputError(f'{path} cannot be written: no right to write in {anchor}')


@contextmanager
def atomic_folder(path: Path, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder whose files are published at ``path`` when the block succeeds.

    A new folder appears by one rename. In a folder that exists, files and folders of the same
    names are replaced one at a time and others stay. On an error, Ctrl-C included, nothing is
    left. Raises what `check_output_folder` raises.
    """
    path = Path(path)
    check_output_folder(path, force)
    exists = path.is_dir()
    home = path if exists else path.absolute().parent
    home.mkdir(parents=True, exist_ok=True)
    staging = _partial_name(home, path.name)
    staging.mkdir()
    try:
        yield staging
        if exists:
            for file in sorted(staging.iterdir()):
                _replace(file, path / file.name, home)
        else:
            os.rename(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace(new: Path, old: Path, home: Path) -> None:
    """Put a file or folder where there may be another one, which is not empty."""
    if not (new.is_dir() and old.is_dir()):
        os.replace(new, old)
        return
    aside = _partial_name(home, old.name)
    os.rename(old, aside)
    os.rename(new, old)
    shutil.rmtree(aside, ignore_errors=True)


def _partial_name(folder: Path, name: str) -> Path:
    return folder / f'.{name}.{secrets.token_hex(4)}.partial'
