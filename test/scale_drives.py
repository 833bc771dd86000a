"""Drives of known scale, with what the wheels of the robot say."""


import numpy as np

from longrecon_ros.geometry import se3
from longrecon_ros.scale import Scale, ScaleConfig, WindowEvidence

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
