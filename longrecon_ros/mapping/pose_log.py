"""The trajectory as it grows, and is revised by the next window."""

from typing import Dict, List

import numpy as np

from ..types import FrameState, Prediction, Trajectory


class PoseLog:
    """One pose a frame; grows by a few hundred bytes a frame and by nothing else."""

    def __init__(self):
        self._stamps_ns: List[int] = []
        self._poses: List[np.ndarray] = []
        self._states: List[int] = []
        self._rows: Dict[int, int] = {}     # of the frames of the last window

    def add(self, prediction: Prediction, stamps_ns: np.ndarray, is_revision: bool) -> None:
        """Append the new frames of an aligned window, and revise those it shares.

        Of the shared frames the first half keeps the pose of the older window (there they were
        in its middle), the rest take the newer one, if ``is_revision``. A measured pose always
        replaces a guessed one, never the other way round.
        """
        shared = [n for n, i in enumerate(prediction.frame_ids.tolist()) if i in self._rows]
        keep = set(shared[:len(shared) // 2])
        rows: Dict[int, int] = {}
        for n, frame_id in enumerate(prediction.frame_ids.tolist()):
            pose, state = prediction.T_window_camera[n].copy(), int(prediction.states[n])
            if frame_id not in self._rows:
                rows[frame_id] = len(self._poses)
                self._stamps_ns.append(int(stamps_ns[n]))
                self._poses.append(pose)
                self._states.append(state)
                continue
            row = rows[frame_id] = self._rows[frame_id]
            was_lost = self._states[row] == FrameState.LOST
            if is_revision and state != FrameState.LOST and (was_lost or n not in keep):
                self._poses[row], self._states[row] = pose, state
        self._rows = rows

    def __len__(self) -> int:
        return len(self._poses)

    def trajectory(self) -> Trajectory:
        """Return all poses so far."""
        poses = np.stack(self._poses) if self._poses else np.zeros((0, 4, 4))
        return Trajectory(np.array(self._stamps_ns, np.int64), poses)

    def states(self) -> np.ndarray:
        """Return the FrameState (K,) uint8 of each pose."""
        return np.array(self._states, np.uint8)
