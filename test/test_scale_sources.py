"""Metres from wheels, depth images and the camera's height, on motions of known scale."""

import math

import numpy as np
import pytest

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pixel_grid, unproject
from longrecon_ros.scale import Scale, ScaleConfig, WindowEvidence
from longrecon_ros.scale.ground import find_ground
from longrecon_ros.scale.wheel import metres_per_unit, WheelSource
from longrecon_ros.synthetic.recipe import Production, Recipe

METRES = 2.7                            # per odom unit, the truth everywhere
START_NS = 1_700_000_000_000_000_000
WHEEL_HZ, CAMERA_HZ = 50, 10
R_BASE_CAMERA = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
MOUNT = se3.from_parts(R_BASE_CAMERA, [0.4, 0.1, 0.6])
WHEEL = ScaleConfig('wheel')
NO_POINTS = (np.zeros((0, 2, 2, 3)), np.zeros((0, 2, 2)), np.zeros(0))


class Drive:
    """A robot on a plane: speeds (m/s) and turn rates (rad/s) by time, known to 0.02 s."""

    def __init__(self, seconds, speed_of=lambda t: 0.5 + 0.0 * t,
                 turn_of=lambda t: 0.3 * np.sin(0.5 * t)):
        self.t = np.arange(round(seconds * WHEEL_HZ)) / WHEEL_HZ
        self.speed, self.turn = (np.broadcast_to(of(self.t), self.t.shape)
                                 for of in (speed_of, turn_of))
        self.T_world_base = self.integrated(np.ones(len(self.t)))

    def integrated(self, gain):
        """Return the poses (n, 4, 4) that wheels with a gain (n,) of their speed would give."""
        yaw = np.concatenate([[0], np.cumsum(self.turn[:-1])]) / WHEEL_HZ
        middle = yaw[:-1] + self.turn[:-1] / WHEEL_HZ / 2
        step = (gain * self.speed)[:-1, None] * np.stack([np.cos(middle), np.sin(middle)], 1)
        xy = np.concatenate([np.zeros((1, 2)), np.cumsum(step / WHEEL_HZ, axis=0)])
        R = se3.so3_exp(np.stack([0 * yaw, 0 * yaw, yaw], 1))
        return se3.from_parts(R, np.column_stack([xy, np.zeros(len(xy))]))

    def wheels(self, rng=None, noise=0.0, slip=()):
        """Return (stamp, pose) of wheels that are off by ``noise``, anew every 0.25 m.

        ``slip`` holds (from s, to s, factor): the wheels turn more than the robot moves.
        """
        way = np.cumsum(np.abs(self.speed)) / WHEEL_HZ
        section = (way / 0.25).astype(int)
        gain = 1 + (noise * rng.standard_normal(section.max() + 1)[section] if noise else 0)
        gain = gain * np.ones(len(self.t))
        for start, end, factor in slip:
            gain[(self.t >= start) & (self.t < end)] *= factor
        poses = self.integrated(gain)
        # another origin and heading than the camera's odom
        T_wheelodom_world = se3.exp(np.array([3.0, -2.0, 0, 0, 0, 0.8]))
        return list(zip((START_NS + np.rint(self.t * 1e9)).astype(np.int64).tolist(),
                        T_wheelodom_world @ poses))

    def cameras(self, rng=None, noise=0.0, T_base_camera=MOUNT):
        """Return stamps (n,) and T_odom_camera (n, 4, 4) of a camera whose steps are noisy."""
        T = (self.T_world_base @ T_base_camera)[3::WHEEL_HZ // CAMERA_HZ]
        # images do not come when wheels do: 7 ms later
        later = (self.T_world_base @ T_base_camera)[4::WHEEL_HZ // CAMERA_HZ]
        T = se3.interpolate(T[:len(later)], later, np.full(len(later), 0.35))
        stamps = START_NS + np.rint(self.t[3::WHEEL_HZ // CAMERA_HZ] * 1e9) + 7_000_000
        T = se3.relative(T[0], T)
        if noise:
            step = np.diff(T[:, :3, 3], axis=0, prepend=0)
            step *= 1 + noise * rng.standard_normal((len(T), 1))
            T[:, :3, 3] = np.cumsum(step, axis=0)
        T[:, :3, 3] /= METRES
        return stamps[:len(T)].astype(np.int64), T


def windows(stamps, T_odom_camera, T_base_camera=MOUNT, size=12, overlap=4, is_measured=None):
    """Yield evidence of overlapping windows without points."""
    for at in range(0, len(stamps), size - overlap):
        used = slice(at, at + size)
        yield WindowEvidence(stamps[used], T_odom_camera[used], *NO_POINTS, T_base_camera,
                             None if is_measured is None else is_measured[used])


def fed(config, wheels, evidence):
    """Return the scale after all the wheels came, and then all the windows."""
    scale = Scale(config)
    for stamp_ns, T in wheels:
        scale.add_wheel(stamp_ns, T)
    for window in evidence:
        scale.add_window(window)
    return scale


def error_of(estimate):
    """Return the relative error of an estimate."""
    return estimate.metres_per_unit / METRES - 1


def test_exact_wheels_give_the_scale_exactly():
    drive = Drive(30)
    estimate = fed(WHEEL, drive.wheels(), windows(*drive.cameras())).estimate()
    assert abs(error_of(estimate)) < 1e-4
    assert estimate.state == 'metric' and estimate.source == 'wheel'
    assert WHEEL.min_sigma <= estimate.sigma < 0.03
    assert estimate.n_measurements > 30


@pytest.mark.parametrize('mode', ['freeze', 'adapt'])
def test_wheels_with_noise_are_within_the_sigma_they_state(mode):
    share, errors = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        drive = Drive(16)
        estimate = fed(ScaleConfig('wheel', mode), drive.wheels(rng, 0.02),
                       windows(*drive.cameras(rng, 0.02))).estimate()
        assert estimate.state == 'metric'
        errors.append(error_of(estimate))
        share.append(abs(math.log1p(errors[-1])) < 2 * estimate.sigma)
    assert 0.85 <= np.mean(share) <= 1.0
    assert np.sqrt(np.mean(np.square(errors))) < (0.012 if mode == 'freeze' else 0.006)


def test_slip_in_bursts_is_rejected():
    rng = np.random.default_rng(3)
    drive = Drive(60)
    slip = [(start, start + 2.5, 1.6) for start in range(4, 60, 10)]
    estimate = fed(ScaleConfig('wheel', 'adapt'), drive.wheels(rng, 0.02, slip),
                   windows(*drive.cameras(rng, 0.01))).estimate()
    assert abs(error_of(estimate)) < 0.02
    plain = math.log(np.mean(np.where((drive.t - 4) % 10 < 2.5, 1.6, 1.0)))
    assert plain > 0.1                          # what a mean would be off by


def test_standing_says_nothing():
    drive = Drive(60, lambda t: 0.0 * t, lambda t: 0.0 * t)
    rng = np.random.default_rng(0)
    wheels = [(stamp, T @ se3.exp(1e-4 * rng.standard_normal(6))) for stamp, T in drive.wheels()]
    stamps, T = drive.cameras()
    T = T @ se3.exp(1e-3 * rng.standard_normal((len(T), 6)))
    estimate = fed(WHEEL, wheels, windows(stamps, T)).estimate()
    assert estimate.n_measurements == 0
    assert (estimate.state, estimate.metres_per_unit) == ('arbitrary', 1.0)
    assert estimate.sigma == math.inf


@pytest.mark.parametrize('mount', [MOUNT, None])
def test_turning_on_the_spot_with_a_lever_arm_says_nothing(mount):
    # the camera goes round in a circle of 0.41 m, in which the base does not take part
    drive = Drive(30, lambda t: 0.0 * t, lambda t: 0.7 + 0.0 * t)
    stamps, T = drive.cameras()
    assert np.ptp(T[:, 0, 3]) * METRES > 0.5
    assert fed(WHEEL, drive.wheels(), windows(stamps, T, mount)).estimate().n_measurements == 0


def test_turning_and_standing_in_between_do_no_harm():
    drive = Drive(60, lambda t: np.where(t % 10 < 5, 0.5, 0.0),
                  lambda t: np.where(t % 10 > 7, 0.8, 0.05))
    estimate = fed(WHEEL, drive.wheels(), windows(*drive.cameras())).estimate()
    assert abs(error_of(estimate)) < 1e-3 and estimate.state == 'metric'


def test_lever_arm_counts_in_curves():
    drive = Drive(40, turn_of=lambda t: 0.6 + 0.0 * t)     # a circle of 0.83 m
    mount = se3.from_parts(R_BASE_CAMERA, [0.4, -0.1, 0.6])
    wheels, (stamps, T) = drive.wheels(), drive.cameras(T_base_camera=mount)
    known = fed(WHEEL, wheels, windows(stamps, T, mount)).estimate()
    assert abs(error_of(known)) < 1e-3 and known.state == 'metric'
    wrong = fed(WHEEL, wheels, windows(stamps, T, np.eye(4))).estimate()
    assert abs(error_of(wrong)) > 0.15          # the camera's circle is 1.01 m
    unknown = fed(WHEEL, wheels, windows(stamps, T, None)).estimate()
    assert unknown.state == 'arbitrary' and unknown.n_measurements == 0


def test_unknown_lever_arm_on_a_winding_way():
    drive = Drive(40)
    estimate = fed(WHEEL, drive.wheels(), windows(*drive.cameras(), None)).estimate()
    assert abs(error_of(estimate)) < 0.03
    assert abs(error_of(estimate)) < 2 * estimate.sigma


def test_heading_of_the_wheels_does_not_matter():
    # the lever arm is turned by the camera's rotation; wheels that slip in yaw do no harm
    drive = Drive(40, turn_of=lambda t: 0.5 * np.sign(np.sin(0.4 * t)))
    wheels = [(stamp, T @ se3.exp(np.array([0, 0, 0, 0, 0, 0.4 * np.sin(0.11 * i)])))
              for i, (stamp, T) in enumerate(drive.wheels())]
    assert abs(error_of(fed(WHEEL, wheels, windows(*drive.cameras())).estimate())) < 1e-3


def test_scale_of_one_piece_solves_the_lever_arm():
    rng = np.random.default_rng(5)
    for _ in range(100):
        T_base = se3.exp(rng.uniform(-1, 1, 6) * [1, 0.3, 0.1, 0.1, 0.1, 0.6])
        chord_m = float(np.linalg.norm(T_base[:3, 3]))
        mount = se3.exp(rng.uniform(-1, 1, 6) * [0.2, 0.2, 0.2, 3, 3, 3])
        way = se3.inverse(mount) @ T_base @ mount
        way[:3, 3] /= METRES
        scale, gain = metres_per_unit(way, chord_m, mount)
        if math.isinf(gain):                                    # it mostly turned
            moved = np.linalg.norm((T_base[:3, :3] - np.eye(3)) @ mount[:3, 3])
            assert moved > 0.7 * chord_m
            continue
        assert scale == pytest.approx(METRES, rel=1e-9)
        more, _ = metres_per_unit(way, chord_m * (1 + 1e-6), mount)
        assert (more / scale - 1) / 1e-6 == pytest.approx(gain, rel=1e-3)


def test_streams_may_be_late_by_any_time():
    drive = Drive(30)
    rng = np.random.default_rng(1)
    wheels, evidence = drive.wheels(rng, 0.02), list(windows(*drive.cameras()))
    want = fed(WHEEL, wheels, evidence).estimate()
    windows_first = Scale(WHEEL)
    for window in evidence:
        windows_first.add_window(window)
    for stamp_ns, T in wheels:
        windows_first.add_wheel(stamp_ns, T)
    assert windows_first.estimate() == want
    between = Scale(WHEEL)                      # windows 3 s after their last frame
    pending = list(evidence)
    for stamp_ns, T in wheels:
        between.add_wheel(stamp_ns, T)
        while pending and pending[0].stamps_ns[-1] + 3_000_000_000 < stamp_ns:
            between.add_window(pending.pop(0))
    for window in pending:
        between.add_window(window)
    assert between.estimate() == want


def test_wheels_out_of_order_twice_and_broken():
    drive = Drive(30)
    wheels, evidence = drive.wheels(), list(windows(*drive.cameras()))
    want = fed(WHEEL, wheels, evidence).estimate()
    rng = np.random.default_rng(2)
    broken = []
    for i, (stamp, T) in enumerate(wheels):
        broken.append((i + 10 * rng.uniform(), stamp, T))
        broken.append((i + 20, stamp, T @ se3.exp(np.ones(6))))     # a repetition that is wrong
        if i % 7 == 0:
            bad = T.copy()
            bad[rng.integers(3), rng.integers(4)] = rng.choice([np.nan, np.inf])
            broken.append((i, stamp - 10_000_000, bad))
        if i % 11 == 0:
            broken.append((i, stamp - 11_000_000, np.zeros((4, 4))))
            broken.append((i, stamp - 12_000_000, np.eye(3)))
    broken.sort(key=lambda item: item[0])
    assert fed(WHEEL, [item[1:] for item in broken], evidence).estimate() == want


def test_windows_again_and_broken_poses():
    drive = Drive(30)
    wheels, (stamps, T) = drive.wheels(), drive.cameras()
    want = fed(WHEEL, wheels, windows(stamps, T)).estimate()
    evidence = list(windows(stamps, T))
    assert fed(WHEEL, wheels, [w for pair in zip(evidence, evidence) for w in pair]
               ).estimate() == want
    assert fed(WHEEL, wheels, evidence + evidence).estimate() == want
    T = T.copy()
    T[::17] = np.nan
    estimate = fed(WHEEL, wheels, windows(stamps, T)).estimate()
    assert abs(error_of(estimate)) < 1e-3 and estimate.n_measurements < want.n_measurements


def test_no_piece_goes_over_a_guess_or_a_gap():
    drive = Drive(60)
    wheels, (stamps, T) = drive.wheels(), drive.cameras()
    T = T.copy()
    T[200:, :3, 3] += 50.0                      # lost for ten frames, and then elsewhere
    is_measured = np.ones(len(T), bool)
    is_measured[190:200] = False
    source = WheelSource(WHEEL)
    taken = [m for w in windows(stamps, T, is_measured=is_measured) for m in source.add_window(w)]
    taken += [m for stamp_ns, pose in wheels for m in source.add_wheel(stamp_ns, pose)]
    assert max(abs(m.log_scale - math.log(METRES)) for m in taken) < 1e-3
    # two seconds without wheels, after which their odometry begins again elsewhere
    holey = [(stamp, pose if i < 1500 else se3.exp(np.array([9.0, 0, 0, 0, 0, 1])) @ pose)
             for i, (stamp, pose) in enumerate(wheels) if not 1400 <= i < 1500]
    source = WheelSource(WHEEL)
    for stamp_ns, pose in holey:
        source.add_wheel(stamp_ns, pose)
    taken = [m for w in windows(*drive.cameras()) for m in source.add_window(w)]
    assert len(taken) > 50
    assert max(abs(m.log_scale - math.log(METRES)) for m in taken) < 1e-3


def test_clocks_that_differ_by_40_ms_hardly_matter():
    drive = Drive(60, lambda t: 0.5 + 0.3 * np.sin(0.7 * t))
    wheels = [(stamp + 40_000_000, T) for stamp, T in drive.wheels()]
    assert abs(error_of(fed(ScaleConfig('wheel', 'adapt'), wheels, windows(*drive.cameras()))
                        .estimate())) < 0.01


def test_memory_of_late_streams_is_bounded():
    source = WheelSource(WHEEL)
    for i in range(13000):
        source.add_wheel(i, np.eye(4))
    assert len(source._wheel) == 12000


# ---- depth images ----

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
