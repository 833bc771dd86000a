"""Metres from depth images and the camera's height."""

import numpy as np
import pytest
from scale_drives import error_of, METRES, START_NS

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pixel_grid, unproject
from longrecon_ros.scale import Scale, ScaleConfig, WindowEvidence
from longrecon_ros.scale.ground import find_ground
from longrecon_ros.synthetic.recipe import Production, Recipe


def scene(size=(96, 72), seed=0):
    """Return points (H, W, 3) in metres of a smooth, slanted scene, 1 to 5 m away."""
    K = np.array([[80.0, 0, size[0] / 2 - 0.5], [0, 80.0, size[1] / 2 - 0.5], [0, 0, 1]])
    K[:2] *= size[0] / 96
    rng = np.random.default_rng(seed)
    u, v = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]))
    a, b = rng.uniform(-0.6, 0.6, 2)
    return unproject(pixel_grid(size), 2.8 + a * u + b * v + 0.3 * np.sin(3 * u), K)


def depth_window(i, points_m, confidence=None, noise=0.0, rng=None, M=3):
    """Return evidence of window i, whose M frames show the same points, 0.1 s apart."""
    points = np.repeat(points_m[None], M, 0) / METRES
    if noise:
        points = points * (1 + noise * rng.standard_normal(points.shape[:3]))[..., None]
    stamps = START_NS + (np.arange(M) + M * i) * 100_000_000
    confidence = np.ones(points.shape[:3]) if confidence is None else confidence
    return WindowEvidence(stamps, np.tile(np.eye(4), (M, 1, 1)), points, confidence, stamps)


def depth_images(scale, size, stamps, corrupt=lambda depth: depth, offset_ns=3_000_000):
    """Give a scale depth images of the scene, a little later than the frames."""
    for stamp in stamps:
        scale.add_depth(int(stamp) + offset_ns, corrupt(scene(size)[..., 2].astype(np.float32)))


@pytest.mark.parametrize('size', [(96, 72), (640, 480), (100, 75), (48, 36)])
def test_depth_of_any_size_gives_the_scale(size):
    scale = Scale(ScaleConfig('depth'))
    evidence = [depth_window(i, scene()) for i in range(4)]
    for window in evidence:
        depth_images(scale, size, window.tail_stamps_ns)
        scale.add_window(window)
    estimate = scale.estimate()
    assert abs(error_of(estimate)) < 2e-3
    # the last frame has a depth image 3 ms later
    assert estimate.state == 'metric' and estimate.n_measurements == 12


def test_depth_with_noise_outliers_and_holes():
    errors, share = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)

        def corrupt(depth, rng=rng):
            depth = depth * (1 + 0.02 * rng.standard_normal(depth.shape)).astype(np.float32)
            depth[rng.random(depth.shape) < 0.3] = 0
            depth[rng.random(depth.shape) < 0.1] = np.nan
            wrong = rng.random(depth.shape) < 0.15
            depth[wrong] = rng.uniform(0.3, 9.0, np.count_nonzero(wrong))
            return depth

        scale = Scale(ScaleConfig('depth'))
        for i in range(4):
            window = depth_window(i, scene(), noise=0.05, rng=rng)
            scale.add_window(window)
            depth_images(scale, (160, 120), window.tail_stamps_ns, corrupt)
        errors.append(error_of(scale.estimate()))
        share.append(abs(errors[-1]) < 2 * scale.estimate().sigma)
    assert np.abs(errors).max() < 0.01
    assert np.mean(share) >= 0.85


def test_depth_counts_only_confident_pixels():
    scale = Scale(ScaleConfig('depth'))
    points = scene().copy()
    points[:30] *= 3.0                              # sky that the network puts somewhere
    confidence = np.ones((3, *points.shape[:2]))
    confidence[:, :30] = 0.2
    confidence[:, :, :5] = 0.0
    points[:, :5] = np.nan
    for i in range(3):
        window = depth_window(i, points, confidence)
        depth_images(scale, (96, 72), window.tail_stamps_ns)
        scale.add_window(window)
    assert abs(error_of(scale.estimate())) < 2e-3


def test_depth_of_another_time_or_another_view_is_left_out():
    scale = Scale(ScaleConfig('depth'))
    for i in range(3):
        window = depth_window(i, scene())
        depth_images(scale, (96, 72), window.tail_stamps_ns, offset_ns=45_000_000)
        scale.add_window(window)
    assert scale.estimate().n_measurements == 0
    rng = np.random.default_rng(0)
    depth_images(scale, (96, 72), [START_NS + i * 100_000_000 for i in range(9, 15)],
                 lambda depth: np.exp(rng.uniform(-1.5, 1.5, depth.shape)))
    for i in (3, 4):
        scale.add_window(depth_window(i, scene()))
    assert scale.estimate().n_measurements == 0
    depth_images(scale, (96, 72), [START_NS + i * 100_000_000 for i in range(15, 18)],
                 lambda depth: np.where(rng.random(depth.shape) < 0.99, 0, depth))
    scale.add_window(depth_window(5, scene()))
    assert scale.estimate().n_measurements == 0


def test_depth_takes_each_frame_once_and_the_nearest_image():
    scale = Scale(ScaleConfig('depth'))
    window = depth_window(0, scene())
    for offset_ns, factor in ((-15_000_000, 1.3), (2_000_000, 1.0), (12_000_000, 0.7)):
        depth_images(scale, (96, 72), window.tail_stamps_ns,
                     lambda depth, factor=factor: factor * depth, offset_ns)
    scale.add_window(window)
    scale.add_window(window)
    assert scale.estimate().n_measurements == 3
    assert abs(error_of(scale.estimate())) < 2e-3


def test_depth_wants_an_image():
    with pytest.raises(ValueError, match=r'depth_m: expected shape \(H, W\), got \(3,\)'):
        Scale(ScaleConfig('depth')).add_depth(0, np.zeros(3))
    Scale(ScaleConfig('wheel')).add_depth(0, np.zeros(3))       # not looked at


# ---- height over the ground ----

@pytest.fixture(scope='module')
def street():
    """Return exact depths (n, H, W), poses and rays of a drive, and how the camera is mounted."""
    production = Production.of(Recipe('street', n_frames=40, size=(160, 120), fps=5.0))
    film = production.film
    frames = range(0, 40)
    return (np.stack([film.depth(i) for i in frames]), np.stack([film.pose(i) for i in frames]),
            film.camera.K, production.world.T_base_camera)


def street_windows(street, noise=0.0, M=3, use_mount=True, seed=0):
    """Yield windows of a drive through the street, in odom units, with errors of depth."""
    depths, poses, K, T_base_camera = street
    rng = np.random.default_rng(seed)
    size = depths.shape[:0:-1]
    T = se3.relative(poses[0], poses)
    T[:, :3, 3] /= METRES
    for at in range(0, len(T), M):
        depth = depths[at:at + M] / METRES
        stamps = START_NS + (at + np.arange(len(depth))) * 200_000_000
        points = np.stack([unproject(pixel_grid(size), d, K) for d in depth])
        points = points * (1 + noise * rng.standard_normal(points.shape[:3]))[..., None]
        yield WindowEvidence(stamps, T[at:at + M], points, depth > 0, stamps,
                             T_base_camera if use_mount else None)


@pytest.mark.parametrize('noise, use_mount, limit', [
    (0.0, True, 0.012), (0.0, False, 0.012), (0.03, True, 0.015), (0.05, True, 0.02),
    (0.03, False, 0.03)])
def test_height_over_a_street_gives_the_scale(street, noise, use_mount, limit):
    height_m = street[3][2, 3]
    scale = Scale(ScaleConfig('height', camera_height_m=height_m))
    for window in street_windows(street, noise, use_mount=use_mount):
        scale.add_window(window)
    estimate = scale.estimate()
    assert abs(error_of(estimate)) < limit
    assert abs(error_of(estimate)) < 2 * estimate.sigma
    assert estimate.state == 'metric' and estimate.n_measurements >= 10


def test_height_needs_several_windows(street):
    scale = Scale(ScaleConfig('height', camera_height_m=1.5))
    evidence = list(street_windows(street))
    for window in evidence[:5]:
        scale.add_window(window)
        scale.add_window(window)                # the same again does not count
    assert scale.estimate().state == 'estimated' and scale.estimate().n_measurements == 5
    for window in evidence[5:]:
        scale.add_window(window)
    assert scale.estimate().state == 'metric'


def _cast(normals, offsets, K, size=(160, 120)):
    """Return points (H, W, 3) of the nearest planes n . x = d in front of a camera."""
    rays = unproject(pixel_grid(size), np.ones(size[::-1]), K)
    with np.errstate(divide='ignore', invalid='ignore'):
        depth = np.stack([d / (rays @ np.array(n)) for n, d in zip(normals, offsets)])
    depth = np.where(depth > 0, depth, np.inf).min(axis=0)
    points = depth[..., None] * rays
    points[~np.isfinite(depth)] = np.nan
    return points


K = np.array([[110.0, 0, 79.5], [0, 110.0, 59.5], [0, 0, 1]])
UP = np.array([0.0, -1.0, 0.0])
NO_GROUND = {
    'wall ahead': lambda rng: _cast([(0, 0, 1.0)], [3.0], K),
    'corridor without floor': lambda rng: _cast([(1.0, 0, 0), (-1.0, 0, 0), (0, 0, 1.0)],
                                                [1, 1, 8], K),
    'slanted wall': lambda rng: _cast([(0.5, 0.6, 0.62)], [2.0], K),
    'ceiling': lambda rng: _cast([(0, -1.0, 0), (0, 0, 1.0)], [1.5, 5.0], K),
    'volume': lambda rng: _cast([(0, 0, 1.0)], [1.0], K) * rng.uniform(1, 6, (120, 160, 1)),
    'nothing': lambda rng: np.full((120, 160, 3), np.nan),
}


@pytest.mark.parametrize('name', NO_GROUND)
def test_points_without_ground_have_none(name):
    points = NO_GROUND[name](np.random.default_rng(0)).reshape(-1, 3)
    assert find_ground(points, UP, np.radians(10), 0.02) is None
    assert find_ground(points, UP, np.radians(30), 0.15) is None


@pytest.mark.parametrize('tilt_deg, height, max_tilt, slope', [
    (0, 1.5, 10, 0.02), (0, 0.01, 10, 0.02), (0, 400.0, 10, 0.02), (1.5, 1.0, 10, 0.02),
    (12, 1.0, 30, 0.15), (20, 0.3, 30, 0.15)])
def test_ground_is_found_at_any_unit_and_tilt(tilt_deg, height, max_tilt, slope):
    R = se3.so3_exp(np.radians([tilt_deg, 0, tilt_deg / 2]))
    down = R @ -UP
    points = _cast([down, (0, 0, 1.0)], [height, 12 * height], K).reshape(-1, 3)
    rng = np.random.default_rng(0)
    points = points * (1 + 0.02 * rng.standard_normal((len(points), 1)))
    ground = find_ground(points, UP, np.radians(max_tilt), slope)
    assert ground.height == pytest.approx(height, rel=max(0.01, 2 * ground.sigma))
    assert ground.sigma < 0.03
    assert ground.normal @ -down > np.cos(np.radians(1.0))
    assert ground.share > 0.5


def test_ground_below_a_table_wins():
    points = _cast([(0, 1.0, 0), (0, 0, 1.0)], [1.0, 8.0], K)
    points[70:, :100] *= 0.45                   # nearer, on the left, with most of the points
    points = points.reshape(-1, 3)
    assert find_ground(points, UP, np.radians(10), 0.02).height == pytest.approx(1.0, rel=0.01)


def test_height_on_windows_without_ground_gives_no_estimate():
    scale = Scale(ScaleConfig('height', camera_height_m=1.5))
    rng = np.random.default_rng(0)
    for i, make in enumerate(NO_GROUND.values()):
        points = make(rng)[None]
        scale.add_window(WindowEvidence([i], np.eye(4)[None], np.nan_to_num(points),
                                        np.isfinite(points[..., 2]), [i], None))
    assert scale.estimate().state == 'arbitrary' and scale.estimate().n_measurements == 0


def test_height_leaves_out_guesses(street):
    scale = Scale(ScaleConfig('height', camera_height_m=1.5))
    for w in street_windows(street):
        n = len(w.stamps_ns)
        scale.add_window(WindowEvidence(w.stamps_ns, w.T_odom_camera, w.local_points, w.confidence,
                                        w.tail_stamps_ns, w.T_base_camera, np.zeros(n, bool)))
    assert scale.estimate().n_measurements == 0
