"""A recording of the room of `fakes` on disk, and its backbone behind the configured name."""

import json
from pathlib import Path

import cv2
from fakes import circle_pose, FakeBackbone, K, make_frames, room_depth, SIZE
import numpy as np

from longrecon_ros.io.timestamps import format_stamp
from longrecon_ros.io.trajectory_file import write_tum
from longrecon_ros.types import Trajectory

N = 40
FAKE = ('--set', 'backbone=fake')
"""Arguments of the command line that ask for the backbone of `use_fake_backbone`."""


def write_clip(folder: Path, n: int = N) -> Path:
    """Write images, times, calibration, true poses and true depth."""
    for name in ('rgb', 'depth'):
        (folder / name).mkdir(parents=True)
    frames = make_frames(n)
    poses = np.stack([circle_pose(frame.index) for frame in frames])
    for frame, pose in zip(frames, poses):
        cv2.imwrite(str(folder / f'rgb/{frame.index:06d}.png'), frame.image[..., ::-1])
        depth_mm = np.round(1000 * room_depth(pose)).astype(np.uint16)
        cv2.imwrite(str(folder / f'depth/{frame.index:06d}.png'), depth_mm)
    stamps = [frame.stamp_ns for frame in frames]
    (folder / 'timestamps.txt').write_text(''.join(format_stamp(s) + '\n' for s in stamps))
    (folder / 'calib.json').write_text(json.dumps(
        {'fx': K[0, 0], 'fy': K[1, 1], 'cx': K[0, 2], 'cy': K[1, 2], 'width': SIZE[0],
         'height': SIZE[1]}))
    write_tum(folder / 'gt_tum.txt', Trajectory(np.array(stamps), poses))
    return folder


def use_fake_backbone(monkeypatch) -> None:
    """Make `FakeBackbone` known by the name ``fake``."""
    monkeypatch.setattr('longrecon_ros.backbones.load', lambda name: FakeBackbone)
