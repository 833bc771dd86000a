"""Maps on disk: what comes back, what is refused, and a kill at any moment."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from test_atlas import assert_same, make_submap, place

from longrecon_ros.errors import InputError
from longrecon_ros.loop.pose_graph import Edge
from longrecon_ros.map_store import load_map, MANIFEST, MapRecord, save_map, Session
from longrecon_ros.mapping.submap_file import read_submap
from longrecon_ros.types import Trajectory


def make_record(n=4, **changes):
    poses = {i: place(i) for i in range(n)}
    edges = tuple(Edge(i, i + 1, place(i).inverse() @ place(i + 1), np.full(7, 0.1))
                  for i in range(n - 1))
    edges += (Edge(0, n - 1, place(n - 1), np.full(7, 0.2), is_loop=True),)
    trajectory = Trajectory(np.arange(3 * n), np.tile(np.eye(4), (3 * n, 1, 1)))
    sessions = {0: Session(trajectory, np.zeros(3 * n, np.uint8), True)}
    fields = {'poses': poses, 'session_of': dict.fromkeys(poses, 0), 'sessions': sessions,
              'edges': edges, 'places': {'a': np.arange(5), 'kind': np.array('words')},
              'place_ids': tuple(range(n)), 'voxel_m': 0.05, 'scale': 'relative',
              'about': {'backbone': 'sfm'}}
    return MapRecord(**{**fields, **changes})


def assert_same_map(record, folder, n):
    found = load_map(folder)
    assert list(found.poses) == list(range(n)) and dict(found.session_of) == record.session_of
    for i, pose in record.poses.items():
        np.testing.assert_array_equal(found.poses[i].as_matrix(), pose.as_matrix())
        assert_same(read_submap(found.files[i]), make_submap(i))
    for a, b in zip(record.edges, found.edges, strict=True):
        assert (a.target, a.source, a.is_loop) == (b.target, b.source, b.is_loop)
        np.testing.assert_array_equal(a.T_target_source.as_matrix(), b.T_target_source.as_matrix())
        np.testing.assert_array_equal(a.sigma, b.sigma)
    assert found.place_ids == record.place_ids and str(found.places['kind']) == 'words'
    np.testing.assert_array_equal(found.places['a'], record.places['a'])
    np.testing.assert_array_equal(found.sessions[0].trajectory.T_map_camera,
                                  record.sessions[0].trajectory.T_map_camera)
    assert found.sessions[0].is_located and found.voxel_m == 0.05 and found.scale == 'relative'
    assert found.about == {'backbone': 'sfm'}
    return found


def test_a_map_comes_back_as_it_was(tmp_path):
    record = make_record()
    save_map(tmp_path / 'map', record, make_submap)
    assert_same_map(record, tmp_path / 'map', 4)


def test_saving_again_writes_what_is_new_and_leaves_nothing_old(tmp_path):
    save_map(tmp_path / 'map', make_record(3), make_submap)
    before = load_map(tmp_path / 'map')
    record = make_record(5, files=before.files)
    asked = []
    save_map(tmp_path / 'map', record, lambda i: asked.append(i) or make_submap(i))
    assert asked == [3, 4]
    found = assert_same_map(record, tmp_path / 'map', 5)
    assert {found.files[i] for i in range(3)} == set(before.files.values())
    assert len(list((tmp_path / 'map').iterdir())) == 1 + 3 + 5
    # a map that goes elsewhere is copied whole
    save_map(tmp_path / 'copy', load_map(tmp_path / 'map'), make_submap)
    assert_same_map(record, tmp_path / 'copy', 5)


@pytest.mark.parametrize('what, message', [
    ('missing', 'the file is missing'), ('short', 'its checksum is wrong'),
    ('flipped', 'its checksum is wrong'), ('newer', 'update'), ('junk', 'cannot be read'),
    ('other', 'this is no map'), ('empty', 'there is no map'), ('escape', 'missing')])
def test_damaged_and_newer_maps_are_refused(tmp_path, what, message):
    folder = tmp_path / 'map'
    save_map(folder, make_record(), make_submap)
    manifest = json.loads((folder / MANIFEST).read_text())
    path = folder / manifest['submaps'][2]['file']
    data = bytearray(path.read_bytes())
    if what == 'missing':
        path.unlink()
    elif what == 'short':
        path.write_bytes(data[:-1])
    elif what == 'flipped':
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif what == 'newer':
        manifest['format'] += 1
    elif what == 'escape':
        manifest['submaps'][2]['file'] = '../' + path.name
    (folder / MANIFEST).write_text(json.dumps(manifest))
    if what == 'junk':
        (folder / MANIFEST).write_text('{"format": ')
    elif what == 'other':
        (folder / MANIFEST).write_text('{"name": "a package"}')
    elif what == 'empty':
        (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match=message):
        load_map(folder)


def test_other_folders_are_not_written_into(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(InputError, match='holds other files'):
        save_map(tmp_path, make_record(), make_submap)
    with pytest.raises(InputError, match='is a file'):
        save_map(tmp_path / 'thesis.tex', make_record(), make_submap)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_a_failure_leaves_the_old_map(tmp_path):
    save_map(tmp_path / 'map', make_record(3), make_submap)

    def fails(i):
        if i == 2:
            raise OSError(28, 'No space left on device')
        return make_submap(i)
    with pytest.raises(InputError, match='No space left.*what was there before is as it was'):
        save_map(tmp_path / 'map', make_record(4), fails)
    assert_same_map(make_record(3), tmp_path / 'map', 3)


_SAVE = """
import sys
sys.path[:0] = [{tests!r}]
from test_map_store import make_record
from test_atlas import make_submap
from longrecon_ros.map_store import save_map
print('ready', flush=True)
n = 3
while True:
    save_map({folder!r}, make_record(n), make_submap)
    n = 7 - n
"""


def test_a_kill_at_any_moment_leaves_a_whole_map(tmp_path):
    folder, tests = tmp_path / 'map', os.path.dirname(__file__)
    save_map(folder, make_record(3), make_submap)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(6):
        saving = subprocess.Popen([sys.executable, '-c', _SAVE.format(tests=tests,
                                                                      folder=str(folder))],
                                  stdout=subprocess.PIPE, env={**os.environ,
                                                               'OMP_NUM_THREADS': '1'})
        assert saving.stdout.readline() == b'ready\n'
        time.sleep(rng.uniform(0.0, 0.2))
        saving.send_signal(signal.SIGKILL)
        saving.communicate()
        n = len(load_map(folder).poses)
        seen.add(n)
        assert_same_map(make_record(n), folder, n)
    assert seen <= {3, 4}
    # what the kills left goes with the next save
    save_map(folder, make_record(3), make_submap)
    assert len(list(folder.iterdir())) == 1 + 3 + 3
