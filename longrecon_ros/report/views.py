"""Directions to look from: up as the cameras held it, and along the path."""

import numpy as np


def path_axes(T_map_camera: np.ndarray) -> np.ndarray:
    """Return R_view_map (3, 3), whose rows are forward, left and up, for poses (K, 4, 4).

    Up is the mean of the cameras' upward axes (-y), so the picture is level if the camera was held
    level on the whole. Forward is the horizontal direction in which the path is longest, seen from
    its start.
    """
    up = -T_map_camera[:, :3, 1].mean(axis=0)
    if np.linalg.norm(up) < 0.1:        # cameras that look all ways tell nothing
        up = -T_map_camera[0, :3, 1]
    up = up / np.linalg.norm(up)
    positions = T_map_camera[:, :3, 3]
    level = positions - positions.mean(axis=0)
    level = level - np.outer(level @ up, up)
    forward = np.linalg.svd(level, full_matrices=False)[2][0]
    if np.abs(level).max() < 1e-9:      # no motion: where the camera looks
        forward = T_map_camera[0, :3, 2]
    forward = forward - (forward @ up) * up
    if np.linalg.norm(forward) < 1e-6:  # it looks straight up or down
        forward = np.cross(T_map_camera[0, :3, 0], up)
    forward = forward / np.linalg.norm(forward)
    if (positions[-1] - positions[0]) @ forward < 0:
        forward = -forward
    return np.stack([forward, np.cross(up, forward), up])
