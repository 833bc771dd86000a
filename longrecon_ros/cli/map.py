"""Keep maps, look at them, and write them for other tools.

A run leaves its map in RUN_DIR/map. `map save` puts it into a folder of its own, from where
`longrecon run INPUT --map MAP_DIR` goes on in it. `map info` says what is there and compares all
checksums. `map export` writes it for others; --as says what, or the suffix of FILE does:

  cloud       .ply, .pcd            all submaps, fused in voxels
  mesh        .obj, .glb, .stl      surface of the views (TSDF; needs open3d); .ply with --as mesh
  trajectory  .txt, .tum            poses of the camera, TUM; of all sessions that lie in the map
  kitti       --as kitti            the same, KITTI: 12 numbers a line
  nerf        --as nerf             FOLDER: images, depth, transforms.json (nerfstudio, ngp)
  colmap      --as colmap           FOLDER: COLMAP's text files and images
  depth       --as depth            FOLDER: images, depth maps and poses; longrecon run reads it
  occupancy   --as occupancy        FOLDER: map.yaml and map.pgm for Nav2; needs metres

Lengths are in the map's unit. Where that is not metres, an occupancy grid needs --metres-per-unit.

examples:
  longrecon map save out/video maps/office
  longrecon map info maps/office
  longrecon map export maps/office office.ply
  longrecon map export maps/office out/grid --as occupancy --metres-per-unit 1.25
"""

import argparse
from collections.abc import Callable
import logging
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ..errors import ConfigError, InputError
from ..io.trajectory_file import write_kitti, write_tum
from ..map_store import load_map, MANIFEST, MapRecord, read_manifest, save_map
from ..mapper import fused, located_atlas, with_normals
from ..mapping.atlas import Atlas
from ..types import Trajectory
from .tables import print_facts

_BY_SUFFIX = MappingProxyType({'.ply': 'cloud', '.pcd': 'cloud', '.obj': 'mesh', '.glb': 'mesh',
                               '.stl': 'mesh', '.txt': 'trajectory', '.tum': 'trajectory'})
_KINDS = ('cloud', 'mesh', 'trajectory', 'kitti', 'nerf', 'colmap', 'depth', 'occupancy')
_MOST_POINTS = 5_000_000
_BUDGET_BYTES = 500_000_000

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('what', choices=('save', 'info', 'export'))
    parser.add_argument('source', metavar='DIR', type=Path, help='RUN_DIR of save, else MAP_DIR')
    parser.add_argument('target', metavar='TARGET', type=Path, nargs='?',
                        help='MAP_DIR of save; FILE or FOLDER of export')
    parser.add_argument('--force', action='store_true',
                        help='replace a map or files that are there')
    export = parser.add_argument_group('export')
    export.add_argument('--as', dest='kind', choices=_KINDS, help='(default: by the suffix)')
    export.add_argument('--voxel', metavar='LENGTH', type=float,
                        help='edge of a voxel (default: that of the run)')
    export.add_argument('--normals', action='store_true',
                        help='a cloud of the views, every pixel of them, with normals')
    export.add_argument('--metres-per-unit', metavar='M', type=float,
                        help='length of one unit of the map, for occupancy')
    export.add_argument('--resolution', metavar='M', type=float, default=0.05,
                        help='of the occupancy grid, m (default: %(default)s)')


def main(args: argparse.Namespace) -> int:
    """Do what was asked."""
    if args.what == 'info':
        return _info(args.source)
    if args.target is None:
        raise ConfigError(f'map {args.what}: give a TARGET as well (see "longrecon map --help")')
    return _save(args) if args.what == 'save' else _export(args)


def _folder_of(path: Path) -> Path:
    """Return the folder of a map: of a run it is the one in it."""
    inner = path / 'map'
    return inner if (inner / MANIFEST).exists() and not (path / MANIFEST).exists() else path


def _save(args: argparse.Namespace) -> int:
    record = load_map(_folder_of(args.source))
    if (args.target / MANIFEST).exists() and not args.force:
        raise InputError(f'{args.target}: there is a map already; choose another folder, or add '
                         '--force to replace it')
    save_map(args.target, record)
    print_facts([('map', str(args.target)), *_facts(record)])
    return 0


def _info(path: Path) -> int:
    folder = _folder_of(path)
    manifest, record = read_manifest(folder), load_map(folder)
    size = sum(entry['bytes'] for entry in (*manifest['parts'].values(), *manifest['submaps']))
    print_facts([('map', str(folder)), *_facts(record),
                 ('size', f'{size / 1e6:.1f} MB, all checksums are right'),
                 ('written by', f'longrecon_ros {manifest["longrecon_ros"]}, format '
                                f'{manifest["format"]}')])
    return 0


def _facts(record: MapRecord) -> list[tuple[str, str]]:
    unit = 'metres' if record.scale == 'metric' else 'odom units, not metres'
    n_loops = sum(edge.is_loop for edge in record.edges)
    facts = [('made with', record.about.get('backbone', 'unknown')
              + ' (SIMULATED)' * record.is_simulated + ' (UNTRAINED)' * record.is_untrained),
             ('holds', f'{len(record.poses)} submaps, {len(record.place_ids)} places, '
                       f'{n_loops} closures'), ('lengths', unit)]
    for i, session in record.sessions.items():
        where = 'in the map' if session.is_located else 'NOT located in the map: its own frame'
        facts.append(('sessions', f'{i}: {len(session.trajectory)} frames, {where}'))
    return facts


def _export(args: argparse.Namespace) -> int:
    kind = args.kind or _BY_SUFFIX.get(args.target.suffix.lower())
    if kind is None:
        raise ConfigError(f'{args.target}: its suffix says nothing; add --as, one of '
                          f'{", ".join(_KINDS)}')
    record = load_map(_folder_of(args.source))
    atlas, left_out = located_atlas(record, _BUDGET_BYTES)
    for session in left_out:
        _log.warning('session %d is not located in the map: left out', session)
    done = _WRITERS[kind](args, record, atlas)
    labels = ' (SIMULATED)' * record.is_simulated + ' (UNTRAINED)' * record.is_untrained
    print_facts([(kind, str(args.target)), ('wrote', done + labels)])
    return 0


def _cloud(args: argparse.Namespace, record: MapRecord, atlas: Atlas) -> str:
    from ..io.pcd import write_pcd
    from ..io.ply import write_ply
    voxel_m = args.voxel or record.voxel_m
    cloud = (with_normals(atlas, voxel_m, _MOST_POINTS) if args.normals
             else fused(atlas, voxel_m, _MOST_POINTS))
    (write_pcd if args.target.suffix.lower() == '.pcd' else write_ply)(args.target, cloud)
    return f'{len(cloud)} points'


def _mesh(args: argparse.Namespace, record: MapRecord, atlas: Atlas) -> str:
    from ..io.mesh import write_mesh
    n_vertices, n_triangles = write_mesh(args.target, atlas.views(), args.voxel or record.voxel_m)
    return f'{n_vertices} vertices, {n_triangles} triangles'


def _trajectory(args: argparse.Namespace, record: MapRecord, _atlas: Atlas) -> str:
    trajectory, n = _whole_trajectory(record)
    (write_kitti if args.kind == 'kitti' else write_tum)(args.target, trajectory)
    return f'{len(trajectory)} poses of {n} session{"s" * (n > 1)}'


def _whole_trajectory(record: MapRecord) -> tuple[Trajectory, int]:
    """Return the poses of all sessions that lie in the map, and how many those are."""
    sessions = [s for s in record.sessions.values() if s.is_located]
    stamps = np.concatenate([s.trajectory.stamps_ns for s in sessions])
    poses = np.concatenate([s.trajectory.T_map_camera for s in sessions])
    # sessions may have been recorded in another order than they went into the map
    order = np.argsort(stamps, kind='stable')
    return Trajectory(stamps[order], poses[order]), len(sessions)


def _nerf(args: argparse.Namespace, record: MapRecord, atlas: Atlas) -> str:
    from ..io.nerf import write_transforms
    cloud = fused(atlas, args.voxel or record.voxel_m, _MOST_POINTS)
    return str(write_transforms(args.target, atlas.views(), record.scale == 'metric', cloud,
                                force=args.force))


def _colmap(args: argparse.Namespace, record: MapRecord, atlas: Atlas) -> str:
    from ..io.colmap import write_colmap
    cloud = fused(atlas, args.voxel or record.voxel_m, _MOST_POINTS)
    return str(write_colmap(args.target, atlas.views(), cloud, force=args.force))


def _depth(args: argparse.Namespace, record: MapRecord, atlas: Atlas) -> str:
    from ..io.depth_maps import write_depth_maps
    return str(write_depth_maps(args.target, atlas.views(), record.scale == 'metric',
                                force=args.force))


def _occupancy(args: argparse.Namespace, record: MapRecord, atlas: Atlas) -> str:
    from ..io.occupancy import write_occupancy
    return str(write_occupancy(args.target, atlas.views(), args.resolution,
                               record.scale == 'metric', args.metres_per_unit,
                               trajectory=_whole_trajectory(record)[0]))


_WRITERS: MappingProxyType[str, Callable[[argparse.Namespace, MapRecord, Atlas], str]] = \
    MappingProxyType({'cloud': _cloud, 'mesh': _mesh, 'trajectory': _trajectory,
                      'kitti': _trajectory, 'nerf': _nerf, 'colmap': _colmap, 'depth': _depth,
                      'occupancy': _occupancy})
