"""Maps on disk: one folder that is always whole, whatever happens while it is written.

``map.json`` names every file with its checksum. Files are never written over: a new state of the
map comes as new files beside the old ones, then ``map.json`` is replaced by one rename, then what
it does not name is removed. A kill at any moment leaves the old map or the new one.
"""

from dataclasses import dataclass, field
import hashlib
import json
from pathlib import Path
import secrets
import shutil
from types import MappingProxyType
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple
import zipfile

import numpy as np

from . import __version__
from .atomic import atomic_file, write_text
from .errors import InputError
from .geometry.sim3 import Sim3
from .loop.pose_graph import Edge
from .mapping.submap_file import write_submap
from .types import Submap, Trajectory

FORMAT = 1
MANIFEST = 'map.json'
OTHERS = ('stream',)
"""What may be saved beside a map: the state of a stream that goes on (`checkpoint`)."""
_PARTS = ('graph', 'places', 'sessions')
_NOTHING: Mapping = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """One stream that went into a map."""

    trajectory: Trajectory                  # T_map_camera, or in its own frame if not located
    states: np.ndarray                      # (K,) uint8 of FrameState
    is_located: bool


@dataclass(frozen=True, slots=True, eq=False)
class MapRecord:
    """All of a map but for its submaps."""

    poses: Mapping[int, Sim3]               # T_map_submap by number
    session_of: Mapping[int, int]           # number of the session of each submap
    sessions: Mapping[int, Session]
    edges: Tuple[Edge, ...]
    places: Mapping[str, np.ndarray]        # state of the index
    place_ids: Tuple[int, ...]              # submap of each position of the index
    voxel_m: float
    scale: str                              # 'relative' or 'metric'
    is_simulated: bool = False
    is_untrained: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)      # where it came from, in words
    files: Mapping[int, Path] = field(default_factory=dict)     # of submaps, once it was loaded


def save_map(folder: Path, record: MapRecord,
             submaps: Optional[Callable[[int], Submap]] = None,
             others: Mapping[str, Mapping[str, np.ndarray]] = _NOTHING) -> Dict[int, Path]:
    """Write a map; ``submaps`` returns those that ``record.files`` has no file of.

    Files that are in ``folder`` stay as they are, others are copied. ``others`` are further
    arrays that go with it, in groups by name (`OTHERS`); `load_map_with` returns them. Returns
    the files of all submaps.

    Raises InputError where it cannot be written, or where the folder holds something else.
    """
    folder = Path(folder)
    _check_target(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = _known_entries(folder)
        entries = [_submap_entry(folder, i, record, submaps, known) for i in record.poses]
        parts = {'graph': _write_arrays(folder, 'graph', _edge_arrays(record.edges)),
                 'places': _write_arrays(folder, 'places', {
                     **{f'index_{key}': value for key, value in record.places.items()},
                     'submap_ids': np.array(record.place_ids, np.int64)}),
                 'sessions': _write_arrays(folder, 'sessions', _session_arrays(record.sessions)),
                 **{name: _write_arrays(folder, name, others[name]) for name in others}}
        manifest = {'format': FORMAT, 'longrecon_ros': __version__, 'scale': record.scale,
                    'simulated': record.is_simulated, 'untrained': record.is_untrained,
                    'voxel_m': record.voxel_m, 'about': dict(record.about), 'parts': parts}
        write_text(folder / MANIFEST, _manifest_text(manifest, entries))
    except OSError as error:
        raise InputError(f'{folder}: the map cannot be written ({error.strerror}); what was there '
                         'before is as it was; make room, or choose another folder') from None
    _remove_others(folder, {MANIFEST, *(part['file'] for part in parts.values()),
                            *(entry['file'] for entry in entries)})
    return {entry['id']: folder / entry['file'] for entry in entries}


def remove_map(folder: Path) -> None:
    """Remove a map, if there is one; other files of the folder stay. InputError if that fails."""
    try:
        if Path(folder).is_dir():
            # first what makes a map of the rest
            (Path(folder) / MANIFEST).unlink(missing_ok=True)
            _remove_others(Path(folder), set())
    except OSError as error:
        raise InputError(f'{folder}: the map cannot be removed ({error.strerror}); remove the '
                         'folder') from None


def load_map(folder: Path) -> MapRecord:
    """Return the map of a folder; its submaps stay in their files until they are wanted.

    All checksums are compared. Raises InputError where there is no map, or one that is damaged or
    newer.
    """
    return load_map_with(folder)[0]


def load_map_with(folder: Path) -> Tuple[MapRecord, Dict[str, Dict[str, np.ndarray]]]:
    """Return what `load_map` does, and the further arrays that were saved with it."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        for entry in (*manifest['parts'].values(), *manifest['submaps']):
            _check_file(folder, entry)
        poses = {entry['id']: Sim3(entry['scale'], np.array(entry['R']), np.array(entry['t']))
                 for entry in manifest['submaps']}
        parts = {name: dict(np.load(folder / part['file'], allow_pickle=False))
                 for name, part in manifest['parts'].items()}
        places = parts['places']
        record = MapRecord(
            poses, {entry['id']: entry['session'] for entry in manifest['submaps']},
            _sessions(parts['sessions']), _edges(parts['graph']),
            {key.removeprefix('index_'): value for key, value in places.items()
             if key != 'submap_ids'}, tuple(places['submap_ids'].tolist()),
            float(manifest['voxel_m']), manifest['scale'], manifest['simulated'],
            manifest['untrained'], manifest['about'],
            {entry['id']: folder / entry['file'] for entry in manifest['submaps']})
        return record, {name: arrays for name, arrays in parts.items() if name not in _PARTS}
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f'{folder}: the map is damaged ({error}); take a copy of it') from None


def read_manifest(folder: Path) -> Dict[str, Any]:
    """Return what ``map.json`` says; raises InputError as `load_map`."""
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise InputError(f'{folder}: there is no map ({MANIFEST} is missing); a run writes one '
                         'into RUN_DIR/map') from None
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: cannot be read ({error}); take a copy of the map') from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get('format'), int):
        raise InputError(f'{path}: this is no map of longrecon_ros; choose another folder')
    if manifest['format'] > FORMAT:
        raise InputError(f'{path}: written by longrecon_ros {manifest.get("longrecon_ros")} '
                         f'(format {manifest["format"]}, known is {FORMAT}): update')
    return manifest


def _check_target(folder: Path) -> None:
    """Refuse to write into a folder that holds something else."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        names = [path.name for path in folder.iterdir()]
        # a first save that was cut off leaves such files, and nothing else
        if not all(_is_ours(name) for name in names):
            raise InputError(f'{folder}: holds other files ({names[0]}) and no map: choose '
                             'another folder')
    if folder.exists() and not folder.is_dir():
        raise InputError(f'{folder} is a file: choose a folder for the map')


def _is_ours(name: str) -> bool:
    return name.startswith(('submap', *_PARTS, *OTHERS, '.')) or name == MANIFEST


def _remove_others(folder: Path, names: Set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in names and _is_ours(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _manifest_text(manifest: Mapping[str, Any], entries: List[Dict[str, Any]]) -> str:
    """Return JSON with a line a submap."""
    lines = ',\n  '.join(json.dumps(entry) for entry in entries)
    return f'{json.dumps(manifest, indent=1)[:-2]},\n "submaps": [\n  {lines}\n ]\n}}\n'


def _known_entries(folder: Path) -> Dict[str, Dict[str, Any]]:
    """Return size and checksum of the files that the map in a folder names, if there is one.

    Such a file is not read again: it was never written over, and where it was damaged since, its
    old checksum tells.
    """
    try:
        entries = read_manifest(folder)['submaps']
        return {entry['file']: {key: entry[key] for key in ('file', 'bytes', 'blake2b')}
                for entry in entries}
    except (InputError, KeyError, TypeError):
        return {}


def _submap_entry(folder: Path, submap_id: int, record: MapRecord,
                  submaps: Optional[Callable[[int], Submap]],
                  entries: Mapping[str, Dict[str, Any]]) -> Dict[str, Any]:
    path, known = (folder / f'submap{submap_id:06d}-{secrets.token_hex(4)}.npz',
                   record.files.get(submap_id))
    if known is None:
        write_submap(path, submaps(submap_id))
    elif known.parent == folder or known.parent.resolve() == folder.resolve():
        path = known
        path.stat()                         # an OSError where it is gone
    else:
        with known.open('rb') as source, atomic_file(path) as target:
            shutil.copyfileobj(source, target)
    pose = record.poses[submap_id]
    return {'id': submap_id, 'session': record.session_of[submap_id], 'scale': pose.scale,
            'R': pose.R.tolist(), 't': pose.t.tolist(),
            **(entries.get(path.name) or _file_entry(path))}


def _write_arrays(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> Dict[str, Any]:
    path = folder / f'{name}-{secrets.token_hex(4)}.npz'
    with atomic_file(path) as stream:
        np.savez(stream, **arrays)
    return _file_entry(path)


def _file_entry(path: Path) -> Dict[str, Any]:
    return {'file': path.name, 'bytes': path.stat().st_size, 'blake2b': _digest(path)}


def _check_file(folder: Path, entry: Mapping[str, Any]) -> None:
    path = folder / entry['file']
    if path.parent != folder or not path.is_file():
        raise InputError(f'{path}: the file is missing; the map is not whole: take a copy of it')
    if path.stat().st_size != entry['bytes'] or _digest(path) != entry['blake2b']:
        raise InputError(f'{path}: its checksum is wrong; the map is damaged: take a copy of it')


def _digest(path: Path) -> str:
    found = hashlib.blake2b(digest_size=16)
    with path.open('rb') as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _edge_arrays(edges: Tuple[Edge, ...]) -> Dict[str, np.ndarray]:
    return {'ends': np.array([(e.target, e.source) for e in edges], np.int64).reshape(-1, 2),
            'scale': np.array([e.T_target_source.scale for e in edges]),
            'R': np.array([e.T_target_source.R for e in edges]).reshape(-1, 3, 3),
            't': np.array([e.T_target_source.t for e in edges]).reshape(-1, 3),
            'sigma': np.array([e.sigma for e in edges]).reshape(-1, 7),
            'is_loop': np.array([e.is_loop for e in edges], bool)}


def _edges(arrays: Mapping[str, np.ndarray]) -> Tuple[Edge, ...]:
    rows = zip(arrays['ends'].tolist(), arrays['scale'], arrays['R'], arrays['t'],
               arrays['sigma'], arrays['is_loop'].tolist())
    return tuple(Edge(target, source, Sim3(scale, R, t), sigma, is_loop)
                 for (target, source), scale, R, t, sigma, is_loop in rows)


def _session_arrays(sessions: Mapping[int, Session]) -> Dict[str, np.ndarray]:
    arrays: Dict[str, np.ndarray] = {'ids': np.array(list(sessions), np.int64)}
    for i, session in sessions.items():
        arrays.update({f'stamps_ns{i}': session.trajectory.stamps_ns,
                       f'poses{i}': session.trajectory.T_map_camera,
                       f'states{i}': np.asarray(session.states, np.uint8),
                       f'is_located{i}': np.bool_(session.is_located)})
    return arrays


def _sessions(arrays: Mapping[str, np.ndarray]) -> Dict[int, Session]:
    return {i: Session(Trajectory(arrays[f'stamps_ns{i}'], arrays[f'poses{i}']),
                       arrays[f'states{i}'], bool(arrays[f'is_located{i}']))
            for i in arrays['ids'].tolist()}
