"""The simulated backbone: each fault has its size, can be switched off, and is reproducible."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from sfm_films import film
from sfm_runs import stream

from longrecon_ros.backbones import _simulated_clusters, _simulated_parts
from longrecon_ros.backbones._simulated_faults import layer_errors
from longrecon_ros.backbones._simulated_layers import find_layers
from longrecon_ros.backbones.simulated import BACKBONE, SimulatedBackbone, SimulatedConfig
from longrecon_ros.errors import InputError
from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pixel_grid, project, unproject
from longrecon_ros.geometry.umeyama import umeyama
from longrecon_ros.preprocess import Preprocessor
from longrecon_ros.types import Frame, FrameTruth, Prediction, Window

NO_FAULTS = {'random_pose': False, 'scale_sigma': 0, 'layer_sigma': 0, 'warp_sigma': 0,
             'pose_translation': 0, 'pose_rotation_deg': 0, 'depth_noise': 0,
             'outlier_share': 0, 'edge_px': 0, 'confidence_noise': 0}
N = 8
SIZE = (160, 120)
K = np.array([[120.0, 0, 79.5], [0, 120.0, 59.5], [0, 0, 1]])


@lru_cache(maxsize=None)
def room(max_pixels: int = SimulatedBackbone.spec.max_pixels) -> tuple:
    """Return the prepared frames of a window in the furnished room."""
    prepare = Preprocessor(max_pixels, SimulatedBackbone.spec.patch)
    return tuple(prepare(frame) for frame in stream(film('indoor', N), use_truth=True))


TINY = 60 * 60       # pixels; for tests that need many windows


def predict(frames=None, state: int = 1, **faults) -> Prediction:
    """Return the prediction of one window with no faults but those given."""
    backbone = SimulatedBackbone(SimulatedConfig(**{**NO_FAULTS, **faults}))
    return backbone.step(state, Window(state, frames or room(), 0))[1]


def true_depth(frames=None) -> np.ndarray:
    return np.stack([_simulated_parts.fill(f.truth.depth)[0] for f in frames or room()])


def log_error(prediction: Prediction, frames=None) -> np.ndarray:
    return np.log(prediction.depth / true_depth(frames))


def true_poses() -> np.ndarray:
    return np.stack([frame.truth.T_world_camera for frame in room()])


def two_planes(shift_m: float = 0.0) -> Frame:
    """Return a frame of a wall at 4 m with a board at 2 m before it; the camera moves sideways."""
    depth = np.full(SIZE[::-1], 4.0, np.float32)
    left = round(50 - shift_m * K[0, 0] / 2)
    depth[40:80, left:left + 60] = 2.0
    T = np.eye(4)
    T[0, 3] = shift_m
    return Frame(0, 0, np.zeros((*depth.shape, 3), np.uint8), K, truth=FrameTruth(depth, T))


# --- the whole ---------------------------------------------------------------------------------

def test_without_faults_it_is_the_truth():
    p = predict()
    np.testing.assert_allclose(p.depth, true_depth(), rtol=1e-6)
    np.testing.assert_allclose(p.T_window_camera, se3.relative(true_poses()[0], true_poses()),
                               atol=1e-9)
    np.testing.assert_array_equal(p.rgb, np.stack([f.image for f in room()]))
    np.testing.assert_allclose(p.confidence, 0.9, rtol=1e-6)


def test_the_gauge_is_all_that_differs_between_windows_without_other_faults():
    windows = [predict(room(TINY), s, random_pose=True, scale_sigma=0.25) for s in range(60)]
    centres = true_poses()[:, :3, 3]
    log_scales = []
    for p in windows:
        fit = umeyama(centres, p.T_window_camera[:, :3, 3])
        np.testing.assert_allclose(fit.apply(centres), p.T_window_camera[:, :3, 3], atol=1e-7)
        np.testing.assert_allclose(p.depth, fit.scale * true_depth(room(TINY)), rtol=1e-4)
        log_scales.append(np.log(fit.scale))
    assert np.std(log_scales) == pytest.approx(0.25, rel=0.3)
    assert len({p.T_window_camera[0].tobytes() for p in windows}) == 60


def test_the_seed_and_the_window_alone_decide():
    backbone = SimulatedBackbone()
    one, two = (backbone.step(3, Window(3, room(), 0))[1] for _ in range(2))
    for name in ('T_window_camera', 'local_points', 'confidence'):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
    for other in (backbone.step(4, Window(4, room(), 0))[1],
                  SimulatedBackbone(SimulatedConfig(seed=1)).step(3, Window(3, room(), 0))[1]):
        for name in ('T_window_camera', 'local_points', 'confidence'):
            assert getattr(one, name).tobytes() != getattr(other, name).tobytes()


def test_one_fault_does_not_change_the_random_numbers_of_another():
    alone = log_error(predict(layer_sigma=0.1))
    among = log_error(predict(layer_sigma=0.1, outlier_share=0.02))
    assert (np.abs(alone - among) < 1e-5).mean() > 0.95


def test_the_state_counts_windows():
    backbone = BACKBONE()
    state = backbone.init()
    for _ in range(2):
        state, _ = backbone.step(state, Window(0, room(), 0))
    assert state == 2


# --- layers ------------------------------------------------------------------------------------

def layers_of(frames, step=0.04, contact=0.25):
    K = frames[0].K
    depth = true_depth(frames)
    rays = unproject(pixel_grid(frames[0].size), np.ones(depth.shape[1:]), K).astype(np.float32)
    poses = np.stack([frame.truth.T_world_camera for frame in frames])
    return find_layers(depth, rays, K, poses, step, contact)


def test_two_surfaces_are_two_layers_in_all_frames():
    frames = [two_planes(0.1 * k) for k in range(4)]
    layers = layers_of(frames)
    assert layers.n_layers == 2
    for labels, frame in zip(layers.labels, frames):
        on_board = frame.truth.depth == 2
        assert len(np.unique(labels[on_board])) == len(np.unique(labels[~on_board])) == 1
    assert len({layers.labels[k][60, 80] for k in range(4)}) == 1


def test_a_slope_is_no_edge_and_touching_surfaces_are_one_layer():
    v = np.arange(SIZE[1])[:, None] * np.ones(SIZE[0])
    floor = np.minimum(1.5 * K[1, 1] / np.maximum(v - 59.5, 1e-3), 6.0).astype(np.float32)
    frame = replace(two_planes(), truth=FrameTruth(floor, np.eye(4)))
    layers = layers_of([frame])
    assert layers.n_layers == 1 and not layers.is_edge.any()
    assert layers_of([frame], contact=0).n_layers == 2, 'the wall and the floor'


def test_layers_of_the_room_stay_the_same_surfaces():
    layers, depth = layers_of(room()), true_depth()
    assert 3 <= layers.n_layers <= 20
    grid = pixel_grid(room()[0].size)
    for k in range(N - 1):
        local = unproject(grid, depth[k], room()[0].K)
        local = se3.apply(se3.relative(true_poses()[k + 1], true_poses()[k]), local.reshape(-1, 3))
        x, y = np.rint(np.nan_to_num(project(local, room()[0].K), nan=-9)).astype(int).T
        h, w = depth.shape[1:]
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        x, y = np.where(inside, x, 0), np.where(inside, y, 0)
        seen = inside & (np.abs(np.log(depth[k + 1][y, x] / local[:, 2])) < 0.01)
        same = layers.labels[k].ravel() == layers.labels[k + 1][y, x]
        assert same[seen].mean() > 0.97


def test_layer_errors_are_one_factor_a_layer_and_new_in_every_window():
    layers = layers_of(room(20_000))
    assert layers.n_layers > 2
    errors = []
    for state in range(1, 41):
        error = log_error(predict(room(20_000), state, layer_sigma=0.08), room(20_000))
        factor = np.array([error[layers.labels == k].mean() for k in range(layers.n_layers)])
        np.testing.assert_allclose(error, factor[layers.labels], atol=1e-5)
        errors.append(factor)
    assert np.std(errors) == pytest.approx(0.08, rel=0.15)
    assert abs(np.mean(errors)) < 0.02


def test_the_first_window_has_no_layer_errors_unless_it_is_asked_for():
    assert np.abs(log_error(predict(state=0, layer_sigma=0.1))).max() < 1e-5
    error = log_error(predict(state=0, layer_sigma=0.1, first_window_exact=False))
    assert np.abs(error).max() > 0.01


def test_clusters_by_hand():
    # 0-1 attract, 1-2 attract less than 0-2 repel; 3 is alone
    pairs = np.array([[0, 1], [1, 2], [0, 2], [2, 3]])
    found = _simulated_clusters.cluster(4, pairs, np.array([5.0, 3.0, -4.0, -1.0]))
    np.testing.assert_array_equal(found, [0, 0, 1, 2])
    found = _simulated_clusters.cluster(4, pairs, np.array([5.0, 3.0, -2.0, -1.0]))
    np.testing.assert_array_equal(found, [0, 0, 0, 1])


# --- the other faults --------------------------------------------------------------------------

def test_the_warp_is_smooth_and_of_its_size():
    errors = np.stack([log_error(predict(room(TINY), s, warp_sigma=0.01), room(TINY))
                       for s in range(1, 60)])
    assert np.sqrt((errors**2).mean()) == pytest.approx(0.01 * np.sqrt(1.09), rel=0.2)
    assert np.abs(np.diff(errors, axis=3)).max() < 0.005
    assert np.abs(np.diff(errors, axis=1)).max() < 0.01, 'it changes slowly over the frames'
    assert errors.mean(axis=1).std() > 2 * (errors - errors.mean(axis=1, keepdims=True)).std()


def test_pose_noise_has_its_size_and_grows_from_the_middle():
    translations, angles = [], []
    middle_m = float(np.median(true_depth()))
    ideal = predict(room(TINY)).T_window_camera
    for state in range(1, 150):
        p = predict(room(TINY), state, pose_translation=0.002, pose_rotation_deg=0.05)
        noise = se3.relative(ideal, p.T_window_camera)
        translations.append(noise[:, :3, 3] / middle_m)
        angles.append(np.degrees(se3.so3_log(noise[:, :3, :3])))
    for values, size in ((translations, 0.002), (angles, 0.05)):
        found = np.std(np.array(values), axis=(0, 2)) / size
        expected = 1 + np.abs(np.arange(N) - 3.5) / 3.5
        np.testing.assert_allclose(found, expected, rtol=0.2)


def test_pixel_noise_has_its_size():
    error = log_error(predict(depth_noise=0.005))
    assert np.sqrt((error**2).mean()) == pytest.approx(0.005, rel=0.05)
    assert abs(np.corrcoef(error[:, :, 1:].ravel(), error[:, :, :-1].ravel())[0, 1]) < 0.02


def test_outliers_cover_their_share_and_only_some_are_known():
    p = predict(outlier_share=0.05)
    error = np.abs(log_error(p))
    is_off = error > 1e-4
    assert 0.035 < is_off.mean() < 0.055
    assert error[is_off].min() > np.log(1.3) - 1e-4 and error.max() < np.log(2) + 1e-4
    assert p.confidence[~is_off].min() > 0.89
    assert 0.1 < (p.confidence[is_off] > 0.5).mean() < 0.95


def test_depths_mix_at_edges_alone():
    frames = (two_planes(),)
    mixed = np.exp(log_error(predict(frames, edge_px=1), frames))[0] * frames[0].truth.depth
    is_mixed = np.abs(mixed - frames[0].truth.depth) > 1e-4
    assert mixed.min() > 1.99 and mixed.max() < 4.01
    rows, columns = np.nonzero(is_mixed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (39, 80, 49, 110)
    assert not is_mixed[41:79, 51:109].any()
    assert is_mixed.sum() == pytest.approx(2 * (2 * (40 + 60)), rel=0.05)


def test_confidence_knows_a_part_of_the_error():
    p = SimulatedBackbone(SimulatedConfig(layer_sigma=0, warp_sigma=0)).step(
        0, Window(0, room(), 0))[1]
    error = np.abs(log_error(p) - np.median(log_error(p)))
    low, high = (error[p.confidence < 0.5], error[p.confidence > 0.9])
    assert low.mean() > 5 * high.mean()
    assert (error[p.confidence > 0.6] > 0.2).any(), 'it must be wrong at times'
    assert p.confidence.min() >= 0 and p.confidence.max() <= 1


def test_holes_are_filled_and_doubtful():
    depth = two_planes().truth.depth.copy()
    depth[20:30, 20:30] = 0
    depth[50:60, 75:85] = np.nan
    frames = (replace(two_planes(), truth=FrameTruth(depth, np.eye(4))),)
    p = predict(frames)
    np.testing.assert_allclose(p.depth[0, 20:30, 20:30], 4)
    np.testing.assert_allclose(p.depth[0, 50:60, 75:85], 2)
    is_hole = ~(depth > 0)
    assert p.confidence[0][is_hole].max() < 0.2 < p.confidence[0][~is_hole].min()


def test_sky_is_far_and_a_frame_without_any_depth_undefined():
    depth = np.full(SIZE[::-1], 40.0, np.float32)
    depth[:30] = 0
    sky, nothing = (replace(two_planes(), index=k, truth=FrameTruth(d, np.eye(4)))
                    for k, d in enumerate((depth, np.zeros_like(depth))))
    p = predict((sky, nothing))
    assert p.depth[0, :30].min() > 60 and p.confidence[0, :30].max() < 0.2
    assert not p.confidence[1].any() and np.isfinite(p.local_points).all()


def test_layer_errors_have_the_stated_deviation_and_shares():
    depths = np.array([0.0, 0.05, 3.0])
    draws = np.stack([layer_errors(np.random.default_rng(seed), depths, 0.1, 0.25)
                      for seed in range(4000)])
    np.testing.assert_allclose(draws.std(axis=0), 0.1, rtol=0.05)
    correlation = np.corrcoef(draws.T)
    assert correlation[0, 1] == pytest.approx(0.75, abs=0.05), 'alike at like depths'
    assert abs(correlation[0, 2]) < 0.06, 'independent far apart'
    assert (layer_errors(np.random.default_rng(0), depths, 0.0, 0.25) == 0).all()


def test_frames_without_truth_or_intrinsics_are_refused():
    with pytest.raises(InputError, match='simulated needs true depth and poses'):
        predict((replace(room()[0], truth=None),))
    with pytest.raises(InputError, match='simulated needs the intrinsics'):
        predict((replace(room()[0], K=None),))
