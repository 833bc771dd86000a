"""Metres from wheels, on drives of known scale."""

import math

import numpy as np
import pytest
from scale_drives import Drive, error_of, fed, METRES, MOUNT, R_BASE_CAMERA, WHEEL, windows

from longrecon_ros.geometry import se3
from longrecon_ros.scale import Scale, ScaleConfig
from longrecon_ros.scale.wheel import metres_per_unit, WheelSource


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
