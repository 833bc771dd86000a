"""Where checkpoints lie on this machine, and what is recorded of those that were fetched.

A checkpoint of the catalogue (`BackboneSpec.weights`) lies at ``FOLDER/NAME/FILE``. Beside it,
``FILE.json`` says which file of which commit it is, and the checksum that the hub states for it.
"""

from dataclasses import asdict, dataclass
import difflib
import hashlib
import json
import os
from pathlib import Path
import shlex
from typing import Callable, Optional, Tuple

from ..errors import WeightsError
from .base import BackboneSpec, WeightsFile

_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Record:
    """What the hub stated about a checkpoint when it was fetched."""

    name: str
    """Of the catalogue."""
    repository: str
    file: str
    commit: str
    size_bytes: int
    sha256: str

    def to_json(self) -> str:
        """Return the text of the file beside the checkpoint."""
        return json.dumps(asdict(self), indent=2) + '\n'


def weights_folder() -> Path:
    """Return LONGRECON_WEIGHTS, or else ``longrecon/weights`` in the user's cache."""
    chosen = os.environ.get('LONGRECON_WEIGHTS')
    if chosen:
        return Path(chosen).expanduser()
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(cache).expanduser() / 'longrecon' / 'weights'


def path_of(file: WeightsFile, folder: Optional[Path] = None) -> Path:
    """Return where a checkpoint of the catalogue lies once it is fetched."""
    return Path(folder or weights_folder()) / file.name / Path(file.file).name


def locate(spec: BackboneSpec, choice: str = '',
           folder: Optional[Path] = None) -> Tuple[Path, Optional[WeightsFile]]:
    """Return the path of a checkpoint that is there, and its entry in the catalogue.

    ``choice`` is a name of the catalogue, or else the path of a file of the user's (its entry is
    None); '' is the usual checkpoint of the backbone. Raises WeightsError when the file is not
    there.
    """
    if not choice and not spec.weights:
        raise WeightsError(f'{spec.name}.weights: {spec.weights_note or "none are published"}; '
                           'name a file')
    known = {file.name: file for file in spec.weights}
    file = known.get(choice) if choice else spec.weights[0]
    if file is not None:
        path = path_of(file, folder)
        if not path.is_file():
            raise WeightsError(_not_fetched(file, path, folder))
        return path, file
    path = Path(choice).expanduser()
    if not path.is_file():
        raise WeightsError(_no_such_file(path, choice, tuple(known)))
    return path, None


def size_text(n_bytes: int) -> str:
    """Return a size for people, such as 3.83 GB."""
    for unit, size in (('GB', 10**9), ('MB', 10**6), ('kB', 10**3)):
        if n_bytes >= size:
            return f'{n_bytes / size:.3g} {unit}'
    return f'{n_bytes} bytes'


def record_path(path: Path) -> Path:
    """Return the name of the file that holds the record of a checkpoint."""
    return path.with_name(path.name + '.json')


def read_record(path: Path) -> Optional[Record]:
    """Return what was recorded when a checkpoint was fetched; None when nothing (readable) was."""
    try:
        return Record(**json.loads(record_path(path).read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError):
        return None


def sha256_of(path: Path, watch: Callable[[int], None] = lambda n_bytes: None) -> str:
    """Return the checksum of a file, in hexadecimal; ``watch`` is told how much was read."""
    digest, n_bytes = hashlib.sha256(), 0
    try:
        with path.open('rb') as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                n_bytes += len(chunk)
                watch(n_bytes)
    except OSError as error:
        raise WeightsError(f'{path}: cannot be read ({error.strerror}): check the path and the '
                           'rights') from None
    return digest.hexdigest()


def verify(path: Path, watch: Callable[[int], None] = lambda n_bytes: None) -> Optional[Record]:
    """Read a checkpoint and compare it with its record; return that, None when there is none.

    Raises WeightsError when the file is not the one that was fetched.
    """
    record = read_record(path)
    if record is None:
        return None
    again = f'"longrecon weights fetch {record.name}" brings it again'
    size_bytes = path.stat().st_size
    if size_bytes != record.size_bytes:
        raise WeightsError(f'{path}: damaged or cut short, {size_bytes} bytes instead of '
                           f'{record.size_bytes}: {again}')
    if sha256_of(path, watch) != record.sha256:
        raise WeightsError(f'{path}: damaged, its checksum is not the recorded one: {again}')
    return record


def _not_fetched(file: WeightsFile, path: Path, folder: Optional[Path]) -> str:
    place = f' --dir {shlex.quote(str(folder))}' if folder else ''
    gated = ', gated' if file.is_gated else ''
    return (f'{path}: the weights are not there: "longrecon weights fetch {file.name}{place}" '
            f'brings them ({size_text(file.size_bytes)} from {file.repository}{gated}; licence '
            f'{file.licence}), or name a file that you have')


def _no_such_file(path: Path, choice: str, names: Tuple[str, ...]) -> str:
    if path.is_dir():
        return f'{path}: this is a folder: name the file of the weights in it'
    close = difflib.get_close_matches(choice, names, 1)
    if close:
        return f'{path}: there is no such file of weights; did you mean "{close[0]}"?'
    known = f', or choose one of: {", ".join(names)}' if names else ''
    return f'{path}: there is no such file of weights: check the path{known}'
