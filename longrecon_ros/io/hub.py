"""Checkpoints from the Hugging Face hub.

A download goes to ``FOLDER/.staging/NAME`` and takes its place only when all bytes are there and
have the checksum that the hub states: a good file is never replaced by a worse one. What was
downloaded before an interruption stays there, and the next call goes on behind it. (The library's
`hf_hub_download` starts anew; its parts can go on.)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import fcntl
import io
import logging
import os
from pathlib import Path
import re
import shutil
import sys

from ..atomic import write_text
from ..backbones._weights import (
    path_of,
    read_record,
    Record,
    record_path,
    sha256_of,
    size_text,
    weights_folder,
)
from ..backbones.base import WeightsFile
from ..errors import WeightsError
from .byte_progress import LogLines, show_bytes
from .hub_library import endpoint, hub_errors, library

_SHA256 = re.compile('[0-9a-f]{64}')

_log = logging.getLogger(__name__)


def fetch(file: WeightsFile, folder: Path | None = None) -> Path:
    """Bring a checkpoint to its place (`path_of`), record what it is, and return the path.

    Nothing is downloaded when the file there has the checksum that the hub states.

    Raises
    ------
    WeightsError
        No network, no access, no such file, no space, or bytes that are not the published ones;
        also when another file is there that was not fetched.
    MissingDependency
        `huggingface_hub` is not installed.

    """
    path = path_of(file, folder)
    staging = Path(folder or weights_folder()) / '.staging' / file.name
    remote = _ask(file)
    text = remote.record.to_json()
    with _written_to(staging), _only_one(staging, file):
        if path.exists() and _is_published(path, remote.record):
            write_text(record_path(path), text)
            return path
        partial = staging / f'{remote.record.sha256}.partial'
        _complete(partial, remote, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        # the record first: if this is cut short between them, the next call has all bytes already
        write_text(record_path(path), text)
        os.replace(partial, path)
        for left_over in staging.glob('*.partial'):         # of other commits
            left_over.unlink()
    return path


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file as the hub states it now, and how to get it."""

    record: Record
    url: str
    headers: dict[str, str]


def _ask(file: WeightsFile) -> _Remote:
    """Ask the hub for size, commit and checksum; nothing is downloaded."""
    hub = library()
    from huggingface_hub.utils import build_hf_headers

    url = hub.hf_hub_url(file.repository, file.file, endpoint=endpoint())
    with hub_errors(file):
        stated = hub.get_hf_file_metadata(url)
        headers = build_hf_headers()
    if not (stated.commit_hash and stated.size and _SHA256.fullmatch(stated.etag or '')):
        raise WeightsError(f'{url}: no commit, size and SHA-256 are stated, so that a download '
                           'could not be checked: does HF_ENDPOINT point to a hub?')
    record = Record(file.name, file.repository, file.file, stated.commit_hash, stated.size,
                    stated.etag)
    # the file of that commit; the address that the answer points to expires
    url = hub.hf_hub_url(file.repository, file.file, revision=record.commit, endpoint=endpoint())
    # pieces of compressed streams could not be joined
    return _Remote(record, url, {**headers, 'Accept-Encoding': 'identity'})


def _is_published(path: Path, record: Record) -> bool:
    """Say whether a file is the one at the hub; raise rather than let a user's be replaced."""
    with show_bytes(path.stat().st_size, f'reading {path.name}') as watch:
        sha256 = sha256_of(path, watch)
    if sha256 != record.sha256 and read_record(path) is None:
        raise WeightsError(f'{path}: this is not {record.file} of {record.repository}, and it was '
                           'not fetched: move it away, then fetch again')
    return sha256 == record.sha256


def _complete(partial: Path, remote: _Remote, file: WeightsFile) -> None:
    """Download what is missing, and check the whole; a wrong file is removed."""
    record = remote.record
    with _PartialFile(partial, record) as stream:
        _check_space(partial, record.size_bytes - stream.n_before)
        if stream.n_before < record.size_bytes:
            _download(stream, remote, file)
        stream.flush()
        os.fsync(stream.fileno())
    with show_bytes(record.size_bytes, f'checking {record.name}') as watch:
        sha256 = sha256_of(partial, watch)
    if sha256 != record.sha256:
        partial.unlink()
        raise WeightsError(f'{record.name}, {record.repository}: what came is damaged (SHA-256 '
                           f'{sha256[:12]}..., stated {record.sha256[:12]}...) and was removed: '
                           'fetch again')


def _download(stream: '_PartialFile', remote: _Remote, file: WeightsFile) -> None:
    from huggingface_hub.file_download import http_get

    n_total = remote.record.size_bytes
    if stream.n_before:
        _log.info('%s: going on after %s of %s', file.name, size_text(stream.n_before),
                  size_text(n_total))
    try:
        with hub_errors(file):
            http_get(remote.url, stream, resume_size=stream.n_before, headers=remote.headers,
                     expected_size=n_total, displayed_filename=file.name)
    except KeyboardInterrupt:
        _log.info('%s: what was downloaded is kept, the next fetch goes on', file.name)
        raise


class _PartialFile(io.BufferedWriter):
    """What the library writes to: goes on behind what is there, and tells how far it is."""

    def __init__(self, path: Path, record: Record):
        super().__init__(io.FileIO(str(path), 'ab'))
        if self.tell() > record.size_bytes:
            self.seek(0)
            self.truncate()
        self.n_before = self.tell()
        # on a terminal the library has a bar
        self._watch = None if sys.stderr.isatty() else \
            LogLines(record.size_bytes, record.name, self.n_before)

    def write(self, data) -> int:
        """Write; inside the library an error of the disk would pass for one of the network."""
        try:
            n_written = super().write(data)
        except OSError as error:
            raise _unwritable(Path(self.raw.name), error) from None
        if self._watch is not None:
            self._watch(self.tell())
        return n_written


def _check_space(partial: Path, n_bytes: int) -> None:
    free_bytes = shutil.disk_usage(partial.parent).free
    if free_bytes < n_bytes:
        raise WeightsError(f'{partial.parent}: {size_text(n_bytes)} are needed and '
                           f'{size_text(free_bytes)} are free: make room, or choose another '
                           'folder with --dir')


@contextmanager
def _only_one(staging: Path, file: WeightsFile) -> Iterator[None]:
    """Keep two processes from writing to one partial file."""
    with (staging / 'lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WeightsError(f'{file.name} is being fetched by another process: wait until it '
                               'has ended') from None
        yield


@contextmanager
def _written_to(folder: Path) -> Iterator[None]:
    """Make a folder, and turn the errors of its disk into `WeightsError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(path: Path, error: OSError) -> WeightsError:
    return WeightsError(f'{path}: cannot be written ({error.strerror or error}): make room, check '
                        'the rights, or choose another folder with --dir')
