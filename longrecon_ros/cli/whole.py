"""Runs of backbones that need the whole recording: they can be resumed, and shared by processes.

`torchrun` starts the processes and tells each its number by the environment.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import logging
from pathlib import Path
import shutil

from ..errors import ConfigError, InputError
from ..nets.launched import rank_and_size
from ..overlap import Overlapped

_log = logging.getLogger(__name__)


def work_folder(out: Path) -> Path:
    """Return where this process keeps what it has reached of a run with these results."""
    rank, size = rank_and_size()
    name = out.absolute().name + '.work'
    return out.absolute().with_name(name) / (f'rank{rank}of{size}' if size > 1 else 'alone')


@contextmanager
def kept_work(out: Path, resume: bool, force: bool) -> Iterator[Path]:
    """Yield the folder of `work_folder`; it goes when the block succeeds, and stays otherwise.

    Raises InputError when there is one without ``resume`` or ``force``, or none to resume.
    """
    folder = work_folder(out)
    if resume and not folder.is_dir():
        raise InputError(f'{folder}: there is no interrupted run to go on with; leave out '
                         '--resume, or give the same --out and number of processes')
    if folder.exists() and not resume:
        if not force:
            raise InputError(f'{folder}: an interrupted run has left this; add --resume to go on '
                             'with it, or --force to begin anew')
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{folder}: cannot be made ({error.strerror}): choose another --out'
                         ) from None
    try:
        yield folder
    except KeyboardInterrupt:
        _log.warning('%s keeps what was reached: the same command with --resume goes on', folder)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def check_processes(pipeline: Overlapped, resume: bool) -> None:
    """Refuse --resume and several processes where the backbone takes windows one by one."""
    if pipeline.needs_all:
        return
    if resume:
        raise ConfigError('--resume: only runs in lock step keep what they have reached (set '
                          'backbone=scal3r); leave it out')
    if rank_and_size()[1] > 1:
        raise ConfigError('torchrun: only runs in lock step can be shared by processes (set '
                          'backbone=scal3r); start one process')


def hush_others() -> None:
    """Let only the process of rank 0 say more than errors."""
    if rank_and_size()[0]:
        logging.getLogger(__package__.partition('.')[0]).setLevel(logging.ERROR)
