"""Dense depth with known poses against exact depth, and confidence against the errors made."""

import cv2
import numpy as np
import pytest
from sfm_films import film, gray

from longrecon_ros.geometry import se3
from longrecon_ros.sfm.dense import choose_sources, DenseConfig, depth_map, View

CONFIG = DenseConfig()
K = np.array([[200.0, 0, 119.5], [0, 200, 89.5], [0, 0, 1]])


def views_of(frames):
    T = se3.inverse(np.stack([f.T_world_camera for f in frames]))
    return [View(gray(f), f.K, t[:3, :3], t[:3, 3]) for f, t in zip(frames, T)]


class Result:
    """A depth map of one frame of a film, next to the truth."""

    def __init__(self, frames, k):
        views = views_of(frames)
        truth = frames[k].depth
        self.is_defined = truth > 0
        near, far = np.percentile(truth[self.is_defined], [2, 98]).tolist()
        sources = choose_sources(views[k], views[:k] + views[k + 1:],
                                 float(np.median(truth[self.is_defined])), CONFIG)
        self.depth, self.confidence = depth_map(views[k], sources, (near / 1.5, far * 2), CONFIG)
        self.error = np.abs(self.depth / np.where(self.is_defined, truth, 1.0) - 1)
        self.is_sure = self.is_defined & (self.confidence > 0.5)
        self.coverage = self.is_sure.sum() / self.is_defined.sum()


@pytest.fixture(scope='module')
def results():
    return {(name, k): Result(film(name, 16), k)
            for name in ('indoor', 'street') for k in (0, 8, 15)}


@pytest.mark.parametrize('name, k', [('indoor', 0), ('indoor', 8), ('indoor', 15), ('street', 8)])
def test_depth_is_right_within_a_few_percent(results, name, k):
    r = results[name, k]
    assert r.coverage > 0.75
    assert np.median(r.error[r.is_sure]) < 0.05
    assert (r.error[r.is_sure] < 0.1).mean() > 0.75
    assert (r.error[r.is_sure] > 0.2).mean() < 0.15


@pytest.mark.parametrize('name', ['indoor', 'street'])
@pytest.mark.parametrize('k', [0, 8, 15])
def test_shapes_and_ranges(results, name, k):
    r = results[name, k]
    assert r.depth.shape == r.confidence.shape == (240, 320)
    assert r.depth.dtype == r.confidence.dtype == np.float32
    assert np.isfinite(r.depth).all() and (r.depth > 0).all()
    assert (r.confidence >= 0).all() and (r.confidence <= 1).all()


@pytest.mark.parametrize('name, k', [('indoor', 0), ('indoor', 8), ('street', 0), ('street', 8),
                                     ('street', 15)])
def test_confidence_goes_down_where_depth_is_wrong(results, name, k):
    r = results[name, k]
    right, wrong = (r.confidence[r.is_defined & x] for x in (r.error < 0.1, r.error > 0.3))
    assert wrong.mean() < 0.8 * right.mean()
    unsure = r.is_defined & ~r.is_sure
    assert np.median(r.error[unsure]) > 2 * np.median(r.error[r.is_sure])


@pytest.mark.parametrize('k', [0, 15])
def test_what_is_sure_is_not_grossly_wrong_at_the_ends_of_a_drive(results, k):
    r = results['street', k]
    assert (r.error[r.is_sure] > 0.2).mean() < 0.2


@pytest.mark.parametrize('k', [0, 8, 15])
def test_the_sky_is_not_given_a_depth(results, k):
    r = results['street', k]
    sky = ~r.is_defined
    inner = cv2.erode(sky.astype(np.uint8), np.ones((21, 21))) > 0
    assert inner.sum() > 1000 and (r.confidence[inner] > 0.5).mean() < 0.05


def test_there_is_no_confidence_at_the_epipole(results):
    frames = film('street', 16)
    ahead = se3.relative(frames[8].T_world_camera, frames[9].T_world_camera)[:3, 3]
    u, v = (frames[8].K @ ahead)[:2] / ahead[2]
    y, x = np.mgrid[:240, :320]
    distance = np.hypot(x - u, y - v)
    r = results['street', 8]
    close, away = r.confidence[distance < 10], r.confidence[(distance > 80) & r.is_defined]
    assert np.median(close) < 0.4 and np.median(away) > 0.9


def test_maps_are_single_precision_whatever_the_range_is():
    (a, _), (b, _) = plane_view(np.eye(4)), plane_view(moved((0.3, 0, 0)))
    depth, _ = depth_map(a, [b], (np.float64(1.0), np.float64(20.0)), CONFIG)
    assert depth.dtype == np.float32


# a textured plane, seen exactly by any camera

def texture(size):
    rng = np.random.default_rng(0)
    noise = sum(cv2.resize(rng.normal(size=(size // s, size // s)), (size, size),
                           interpolation=cv2.INTER_CUBIC) * s for s in (4, 8, 16, 32))
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


TEXTURE = texture(1024)


def plane_view(T_plane_camera, normal_tilt=0.0, size=(240, 180)):
    """Look at the plane z = 4 + tilt x of the window; return the view and its exact depth."""
    T = se3.inverse(T_plane_camera)
    R, t = T[:3, :3], T[:3, 3]
    # plane points (x, y, 4 + tilt x) for texel coordinates x, y
    B = np.array([[1, 0, 0], [0, 1, 0], [normal_tilt, 0, 4.0]])
    to_texel = np.array([[150, 0, 512], [0, 150, 512], [0, 0, 1.0]])
    H = K @ (R @ B + np.outer(t, [0, 0, 1.0])) @ np.linalg.inv(to_texel)
    image = cv2.warpPerspective(TEXTURE, H, size, flags=cv2.INTER_AREA)
    n = np.array([normal_tilt, 0, -1.0])            # n . X = -4 on the plane
    rays = np.dstack([*np.meshgrid((np.arange(size[0]) - K[0, 2]) / K[0, 0],
                                   (np.arange(size[1]) - K[1, 2]) / K[1, 1]),
                      np.ones(size[::-1])])
    C = T_plane_camera[:3, 3]
    depth = (-4 - n @ C) / (rays @ R @ n)
    return View(image, K, R, t), depth


def moved(step, turn_deg=(0, 0, 0)):
    return se3.from_parts(se3.so3_exp(np.deg2rad(np.array(turn_deg, float))),
                          np.array(step, float))


@pytest.mark.parametrize('tilt', [0.0, 0.4])
@pytest.mark.parametrize('step, turn_deg', [
    ((0.3, 0, 0), (0, 0, 0)), ((0, 0.3, 0), (0, 0, 0)), ((-0.2, 0.2, 0.1), (1, -3, 5))])
def test_a_plane_comes_out_exactly(tilt, step, turn_deg):
    reference, truth = plane_view(np.eye(4), tilt)
    source, _ = plane_view(moved(step, turn_deg), tilt)
    depth, confidence = depth_map(reference, [source], (1.0, 20.0), CONFIG)
    sure = confidence > 0.5
    assert sure.mean() > 0.8
    error = depth[sure] / truth[sure] - 1
    assert np.median(np.abs(error)) < 0.01 and abs(np.median(error)) < 0.005
    assert np.percentile(np.abs(error), 90) < 0.04


def test_driving_at_a_plane_gives_the_same_depth_on_all_sides_of_the_epipole():
    # half a pixel of misplacement anywhere would stretch one side and shrink the other
    reference, truth = plane_view(np.eye(4))
    depth, confidence = depth_map(reference, [plane_view(moved((0, 0, 0.4)))[0]], (1.0, 20.0),
                                  CONFIG)
    dx, dy = np.meshgrid(np.arange(240) - K[0, 2], np.arange(180) - K[1, 2])
    ring = (np.hypot(dx, dy) > 25) & (np.hypot(dx, dy) < 70) & (confidence > 0.5)
    ratio = depth / truth
    for side in (dx, dy):
        one, other = np.median(ratio[ring & (side > 0)]), np.median(ratio[ring & (side < 0)])
        assert abs(one - other) < 0.006 and one == pytest.approx(1, abs=0.02)


def test_depth_is_in_the_units_of_the_poses():
    (a, _), (b, _), (c, _) = (plane_view(moved(step)) for step in
                              ((0, 0, 0), (0.3, 0, 0), (-0.1, 0.2, 0)))
    depth, confidence = depth_map(a, [b, c], (1.0, 20.0), CONFIG)
    scaled = [View(v.gray, v.K, v.R, 7 * v.t) for v in (a, b, c)]
    depth_7, confidence_7 = depth_map(scaled[0], scaled[1:], (7.0, 140.0), CONFIG)
    np.testing.assert_allclose(depth_7, 7 * depth, rtol=1e-3)
    np.testing.assert_allclose(confidence_7, confidence, atol=1e-3)


def test_the_window_frame_may_be_any():
    (a, _), (b, _) = plane_view(np.eye(4)), plane_view(moved((0.3, 0, 0), (0, 2, 0)))
    gauge = moved((4, -2, 9), (40, 80, -30))
    turned = []
    for v in (a, b):
        T = se3.from_parts(v.R, v.t) @ gauge
        turned.append(View(v.gray, v.K, T[:3, :3], T[:3, 3]))
    plain, other = (depth_map(x, [y], (1.0, 20.0), CONFIG)[0] for x, y in ((a, b), turned))
    np.testing.assert_allclose(other, plain, rtol=1e-3)


def test_more_baseline_gives_more_confidence():
    reference, _ = plane_view(np.eye(4))
    levels = [np.median(depth_map(reference, [plane_view(moved((b, 0, 0)))[0]], (1.0, 20.0),
                                  CONFIG)[1]) for b in (0.004, 0.04, 0.3)]
    assert levels == sorted(levels) and levels[0] < 0.5 < levels[-1]


def test_a_second_source_adds_confidence():
    reference, _ = plane_view(np.eye(4))
    sources = [plane_view(moved(step))[0] for step in ((0.05, 0, 0), (-0.05, 0, 0))]
    one, two = (np.median(depth_map(reference, sources[:n], (1.0, 20.0), CONFIG)[1])
                for n in (1, 2))
    assert two > one


def test_depth_outside_the_believed_range_has_no_confidence():
    reference, _ = plane_view(np.eye(4))
    source, _ = plane_view(moved((0.3, 0, 0)))
    for depth_range in ((5.0, 20.0), (0.5, 3.0)):
        depth, confidence = depth_map(reference, [source], depth_range, CONFIG)
        assert (confidence > 0).mean() < 0.05
        assert (depth >= depth_range[0] * 0.99).all() and (depth <= depth_range[1] * 1.01).all()


def test_without_texture_there_is_no_confidence():
    reference, _ = plane_view(np.eye(4))
    source, _ = plane_view(moved((0.3, 0, 0)))
    blank = [View(np.full_like(v.gray, 180), v.K, v.R, v.t) for v in (reference, source)]
    depth, confidence = depth_map(blank[0], blank[1:], (1.0, 20.0), CONFIG)
    assert confidence.max() < 0.1 and np.isfinite(depth).all()


def test_unrelated_images_have_little_confidence():
    reference, _ = plane_view(np.eye(4))
    source, _ = plane_view(moved((0.3, 0, 0)))
    other = View(source.gray[::-1, ::-1].copy(), K, source.R, source.t)
    confidence = depth_map(reference, [other], (1.0, 20.0), CONFIG)[1]
    assert (confidence > 0.5).mean() < 0.3


def test_without_sources_there_is_no_confidence():
    reference, _ = plane_view(np.eye(4))
    depth, confidence = depth_map(reference, [], (1.0, 20.0), CONFIG)
    assert not confidence.any() and np.isfinite(depth).all() and (depth > 0).all()


@pytest.mark.parametrize('size', [(241, 181), (160, 91), (65, 33)])
def test_odd_sizes(size):
    (a, _), (b, _) = (plane_view(moved(step), size=size) for step in ((0, 0, 0), (0.1, 0, 0)))
    depth, confidence = depth_map(a, [b], (1.0, 20.0), CONFIG)
    assert depth.shape == confidence.shape == size[::-1]
    assert abs(np.median(depth[confidence > 0.3]) / 4 - 1) < 0.05


# the choice of sources

def bare(step, turn_deg=(0, 0, 0)):
    T = se3.inverse(moved(step, turn_deg))
    return View(np.zeros((4, 4), np.uint8), K, T[:3, :3], T[:3, 3])


def test_sources_have_the_wanted_baseline_best_first():
    others = [bare((b, 0, 0)) for b in (0.01, 0.1, 0.4, 0.9, 3.0)]
    chosen = choose_sources(bare((0, 0, 0)), others, 5.0, CONFIG)     # 0.4 is 0.08 of the depth
    assert [others.index(v) for v in chosen] == [2, 3]
    assert len(choose_sources(bare((0, 0, 0)), others, 5.0, DenseConfig(n_sources=4))) == 4


def test_sources_look_the_same_way():
    others = [bare((0.4, 0, 0), (0, 25, 0)), bare((0.5, 0, 0)), bare((0.4, 0, 0), (0, 90, 0))]
    chosen = choose_sources(bare((0, 0, 0)), others, 5.0, CONFIG)
    assert [others.index(v) for v in chosen] == [1, 0]


def test_a_camera_at_the_same_place_is_no_source():
    others = [bare((0, 0, 0)), bare((0.01, 0, 0), (0, 3, 0))]
    assert choose_sources(bare((0, 0, 0)), others, 5.0, CONFIG) == []
    assert choose_sources(bare((0, 0, 0)), [], 5.0, CONFIG) == []
