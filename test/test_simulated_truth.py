"""Truth that comes with frames, and the label on results that were made from it."""

from dataclasses import replace
import json

import numpy as np
import pytest
from sfm_films import film

from longrecon_ros.cli.main import main
from longrecon_ros.errors import InputError
from longrecon_ros.geometry.camera import pixel_grid, project, unproject
from longrecon_ros.io.source import open_source
from longrecon_ros.io.truth import TrueFrames
from longrecon_ros.preprocess import Preprocessor
from longrecon_ros.synthetic.stream import SyntheticSource
from longrecon_ros.types import Frame, FrameTruth, Trajectory


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """Return a small synthetic folder."""
    folder = tmp_path_factory.mktemp('synth') / 'clip'
    assert main(['synth', str(folder), '--frames', '20', '--size', '160x120']) == 0
    return folder


def test_a_folder_gives_every_frame_its_own_truth(clip):
    plain, true = open_source(clip, every=3), open_source(clip, every=3, use_truth=True)
    assert all(frame.truth is None for frame in plain)
    truth = true.groundtruth()
    for index, frame in enumerate(true):
        assert frame.index == index
        np.testing.assert_array_equal(frame.truth.depth, plain.depth(index))
        row = np.flatnonzero(truth.stamps_ns == frame.stamp_ns)
        np.testing.assert_array_equal(frame.truth.T_world_camera, truth.T_map_camera[row[0]])


@pytest.mark.parametrize('missing, words', [('gt_tum.txt', 'no true poses'),
                                            ('depth', 'no true depth')])
def test_a_folder_without_truth_says_what_is_missing(clip, tmp_path, missing, words):
    for item in clip.iterdir():
        if item.name != missing:
            (tmp_path / item.name).symlink_to(item)
    open_source(tmp_path)
    with pytest.raises(InputError, match=words):
        open_source(tmp_path, use_truth=True)


def test_a_frame_far_from_any_true_pose_is_named():
    class Shifted:
        warnings = []

        def __iter__(self):
            return iter([replace(film('indoor', 1)[0].to_frame(), stamp_ns=10**9)])

        def describe(self):
            return 'shifted'

        def groundtruth(self):
            return Trajectory(np.array([0]), np.eye(4)[None])

        def depth(self, index):
            return np.ones((2, 2), np.float32)

    with pytest.raises(InputError, match='frame 0 has no true pose within 0.02 s .*1 s away'):
        list(TrueFrames(Shifted()))


def test_a_film_gives_its_truth_on_demand():
    source = SyntheticSource(_Film(), 2, use_truth=True)
    assert [frame.truth is not None for frame in source] == [True, True]
    assert [frame.truth is None for frame in SyntheticSource(_Film(), 2)] == [True, True]


class _Film:
    def frame(self, index):
        return film('indoor', 2)[index]


def test_truth_is_prepared_like_the_image():
    picture = film('indoor', 1)[0]
    frame = Frame(0, 0, picture.image, picture.K,
                  truth=FrameTruth(picture.depth, picture.T_world_camera))
    small = Preprocessor(150 * 100, 14)(frame)
    assert small.truth.depth.shape == small.image.shape[:2]
    assert np.isin(small.truth.depth, picture.depth).all()
    # a pixel of the small map is at the same place in the scene, to the large map's resolution
    grid = pixel_grid(small.size)
    rays = unproject(grid, np.ones(grid.shape[:2]), small.K)
    x, y = np.rint(project(rays, picture.K)).astype(int).reshape(-1, 2).T
    ratio = small.truth.depth.ravel() / picture.depth[np.clip(y, 0, 239), np.clip(x, 0, 319)]
    assert np.mean(np.abs(ratio - 1) < 0.02) > 0.97


def test_results_are_labelled(clip, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['run', str(clip), '--out', str(out), '--set', 'backbone=simulated',
                 '--set', 'window.size=10', '--set', 'window.overlap=4']) == 0
    printed = capsys.readouterr().out
    result = json.loads((out / 'result.json').read_text())
    page = (out / 'report.html').read_text()
    label = 'SIMULATED: predictions are made from ground truth with artificial faults'
    assert result['simulated'] is True and result['warnings'][0].startswith(label)
    assert label in printed and label in page and '<h1>SIMULATED: ' in page
    assert result['n_unlinked'] == 0 and result['ate_sim3_percent'] < 10
    assert main(['evaluate', str(out), str(clip)]) == 0
    assert capsys.readouterr().out.startswith(label)
    assert main(['evaluate', str(out), str(clip), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['simulated'] is True


def test_results_of_other_backbones_are_not(clip, tmp_path, capsys):
    assert main(['run', str(clip), '--out', str(tmp_path / 'out')]) == 0
    assert 'SIMULATED' not in capsys.readouterr().out
    assert json.loads((tmp_path / 'out/result.json').read_text())['simulated'] is False


def test_info_says_what_it_is(capsys):
    assert main(['info']) == 0
    assert 'simulated: SIMULATED predictions, from ground truth' in capsys.readouterr().out
