"""List, fetch and check the checkpoints of networks.

They come from the Hugging Face hub, under licences of their own that are shown before anything is
downloaded. They lie in the folder that LONGRECON_WEIGHTS names, or else in the user's cache. An
interrupted download goes on where it stopped; a file with a wrong checksum is never used.

examples:
  longrecon weights list
  longrecon weights fetch pi3
  longrecon weights check pi3
  longrecon weights check mine.safetensors --backbone pi3
  longrecon weights where pi3
"""

import argparse
from collections.abc import Sequence
import difflib
import json
import logging
from pathlib import Path
import sys
from typing import NamedTuple

from .. import backbones
from ..backbones._weights import locate, path_of, Record, size_text, verify, weights_folder
from ..backbones.base import Backbone, WeightsFile
from ..errors import ConfigError, WeightsError
from ..io import hub
from ..io.byte_progress import show_bytes
from ..io.hub_library import library, page_of
from .tables import print_facts, print_table

_HEADER = ('name', 'repository', 'file', 'size', 'licence of weights', 'licence of code', 'gated',
           'here')
_DECLINED = 2

_log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """A published checkpoint and the backbone that loads it."""

    backbone: type[Backbone]
    file: WeightsFile


def catalogue() -> tuple[Checkpoint, ...]:
    """Return the published checkpoints of all backbones."""
    found = [backbones.load(name) for name in backbones.available()]
    return tuple(Checkpoint(backbone, file) for backbone in found
                 for file in backbone.spec.weights)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb, an action at a time."""
    actions = parser.add_subparsers(metavar='ACTION', required=True)
    listing = _add_action(actions, 'list', _list, 'show what can be fetched, and what is here')
    listing.add_argument('--paths', action='store_true', help='show where the files lie')
    listing.add_argument('--json', action='store_true', help='print JSON')
    fetching = _add_action(actions, 'fetch', _fetch, 'download checkpoints, and verify them')
    fetching.add_argument('names', metavar='NAME', nargs='+', help='as "list" shows it')
    fetching.add_argument('--yes', action='store_true', help='do not ask')
    fetching.add_argument('--offline', action='store_true',
                          help='use no network: fail if a file is not here')
    checking = _add_action(actions, 'check', _check, 'verify checksum and tensors of a file')
    checking.add_argument('target', metavar='NAME|FILE', help='a checkpoint, or a file of yours')
    checking.add_argument('--backbone', metavar='B', help='the backbone that FILE is for')
    where = _add_action(actions, 'where', _where, 'print the path of a file, or the folder')
    where.add_argument('name', metavar='NAME', nargs='?', help='as "list" shows it')


def main(args: argparse.Namespace) -> int:
    """Do the action; return the exit code."""
    return args.action(args)


def _add_action(actions, name: str, action, text: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text)
    parser.set_defaults(action=action)
    parser.add_argument('--dir', metavar='D', type=Path,
                        help='folder of the weights (default: see "longrecon weights where")')
    # once more, so that they may also stand behind the action
    for flag, long in (('-v', '--verbose'), ('-q', '--quiet')):
        parser.add_argument(flag, long, action='store_true', default=argparse.SUPPRESS,
                            help=argparse.SUPPRESS)
    return parser


def _list(args: argparse.Namespace) -> int:
    known = catalogue()
    if args.json:
        print(json.dumps([_as_json(checkpoint, args.dir) for checkpoint in known], indent=2))
        return 0
    if not known:
        print('no backbone has published weights')
        return 0
    rows = [_row(file) + (_yes(path_of(file, args.dir).is_file()),) for _, file in known]
    header = _HEADER
    if args.paths:
        header += ('path',)
        rows = [row + (str(path_of(file, args.dir)),) for row, (_, file) in zip(rows, known)]
    print_table(header, rows)
    for name, note in weights_notes():
        print(f'{name}: {note}')
    return 0


def weights_notes() -> tuple[tuple[str, str], ...]:
    """Return the backbones that want weights of which none can be fetched, and why."""
    specs = [backbones.load(name).spec for name in backbones.available()]
    return tuple((spec.name, spec.weights_note) for spec in specs if spec.weights_note)


def _as_json(checkpoint: Checkpoint, folder: Path | None) -> dict:
    file, path = checkpoint.file, path_of(checkpoint.file, folder)
    return {'name': file.name, 'backbone': checkpoint.backbone.spec.name,
            'repository': file.repository, 'file': file.file, 'size_bytes': file.size_bytes,
            'licence': file.licence, 'code_licence': file.code_licence, 'gated': file.is_gated,
            'path': str(path), 'here': path.is_file()}


def _row(file: WeightsFile) -> tuple[str, ...]:
    return (file.name, file.repository, file.file, size_text(file.size_bytes), file.licence,
            file.code_licence, _yes(file.is_gated))


def _yes(is_so: bool) -> str:
    return 'yes' if is_so else 'no'


def _fetch(args: argparse.Namespace) -> int:
    files = [_find(name).file for name in dict.fromkeys(args.names)]
    wanted = [file for file in files if not _is_here(file, args.dir, args.offline)]
    if not wanted:
        return 0
    if args.offline:
        names = ' '.join(file.name for file in wanted)
        raise WeightsError(f'{path_of(wanted[0], args.dir)}: not there, or damaged, and --offline '
                           f'forbids downloading: "longrecon weights fetch {names}" without it')
    library()
    for file in wanted:
        _show(file, args.dir)
        print()
    if not _may_download(wanted, args.yes):
        print('nothing was downloaded')
        return _DECLINED
    for file in wanted:
        print(f'{hub.fetch(file, args.dir)}: complete, with the checksum that the hub states')
    return 0


def _is_here(file: WeightsFile, folder: Path | None, is_offline: bool) -> bool:
    """Say, to the user as well, whether a file is there as it was fetched; this reads it all."""
    path = path_of(file, folder)
    if not path.is_file():
        return False
    try:
        record = _verify(path)
    except WeightsError as error:
        _log.warning('%s', error)
        return False
    if record is not None:
        print(f'{path}: is here, with the checksum that was recorded: nothing to download')
    elif is_offline:
        print(f'{path}: is here, without a recorded checksum')
    return record is not None or is_offline


def _verify(path: Path) -> Record | None:
    with show_bytes(path.stat().st_size, f'reading {path.name}') as watch:
        return verify(path, watch)


def _show(file: WeightsFile, folder: Path | None) -> None:
    facts = [('name', file.name), ('repository', file.repository), ('file', file.file),
             ('size', size_text(file.size_bytes)), ('licence of weights', file.licence),
             ('licence of code', f'{file.code_licence} (code that is not used here)'),
             ('goes to', str(path_of(file, folder)))]
    if file.is_gated:
        facts.append(('gated', f'the authors grant access one by one: {page_of(file)}'))
    print_facts(facts)


def _may_download(files: Sequence[WeightsFile], is_agreed: bool) -> bool:
    """Ask on a terminal; elsewhere --yes must have been given."""
    # what a download is about must be readable before it starts
    sys.stdout.flush()
    if is_agreed:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError('weights fetch asks before it downloads, and this is no terminal: add '
                          '--yes if you accept the licences')
    size = size_text(sum(file.size_bytes for file in files))
    try:
        return input(f'Download {size} under these licences? [y/N] ').strip().lower() in (
            'y', 'yes')
    except EOFError:
        return False


def _check(args: argparse.Namespace) -> int:
    backbone, path = _to_check(args)
    facts = [('file', str(path)), ('size', size_text(path.stat().st_size)),
             ('checksum', _checksum(path))]
    backbone.check_weights(path)
    print_facts([*facts, ('tensors', f'all of {backbone.spec.name}, and none besides')])
    return 0


def _to_check(args: argparse.Namespace) -> tuple[type[Backbone], Path]:
    """Return the backbone and the file that the arguments name; both are there."""
    known = {checkpoint.file.name: checkpoint for checkpoint in catalogue()}
    if args.target in known:
        checkpoint = known[args.target]
        path, _ = locate(checkpoint.backbone.spec, args.target, args.dir)
        backbone = backbones.load(args.backbone) if args.backbone else checkpoint.backbone
        return backbone, path
    path = Path(args.target).expanduser()
    if not path.is_file():
        raise WeightsError(f'{args.target}: neither a file nor a checkpoint; '
                           f'{_hint(args.target, tuple(known))}')
    if not args.backbone:
        raise ConfigError(f'{args.target}: say which backbone the file is for: --backbone NAME')
    return backbones.load(args.backbone), path


def _checksum(path: Path) -> str:
    record = _verify(path)
    if record is None:
        return 'none recorded: the file was not fetched'
    return f'SHA-256 as recorded: {record.file} of {record.repository}, commit {record.commit[:9]}'


def _where(args: argparse.Namespace) -> int:
    if args.name is None:
        print(args.dir or weights_folder())
        return 0
    checkpoint = _find(args.name)
    print(locate(checkpoint.backbone.spec, args.name, args.dir)[0])
    return 0


def _find(name: str) -> Checkpoint:
    known = catalogue()
    for checkpoint in known:
        if checkpoint.file.name == name:
            return checkpoint
    names = tuple(checkpoint.file.name for checkpoint in known)
    raise ConfigError(f'weights: there is no checkpoint "{name}"; {_hint(name, names)}')


def _hint(name: str, names: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f'choose one of: {", ".join(names)}' if names else 'no backbone has published weights'
