"""The trajectory as it grows, and is revised by the next window."""

from typing import Any, Dict, Mapping

import numpy as np

from ..geometry import se3
from ..geometry.sim3 import Sim3
from ..types import FrameState, Prediction, Trajectory

_FIRST_ROWS = 1024


class PoseLog:
    """One pose a frame, in odom, and the submap that the frame belongs to.

    Grows by 150 bytes a frame and by nothing else.
    """

    def __init__(self):
        self._n = 0
        self._stamps_ns = np.zeros(_FIRST_ROWS, np.int64)
        self._poses = np.zeros((_FIRST_ROWS, 4, 4))
        self._states = np.zeros(_FIRST_ROWS, np.uint8)
        self._submaps = np.zeros(_FIRST_ROWS, np.int64)
        self._rows: Dict[int, int] = {}     # of the frames of the last window

    def state(self) -> Dict[str, np.ndarray]:
        """Return plain arrays that `from_state` makes the same log of."""
        n = self._n
        return {'stamps_ns': self._stamps_ns[:n].copy(), 'poses': self._poses[:n].copy(),
                'states': self._states[:n].copy(), 'submaps': self._submaps[:n].copy(),
                'last_ids': np.array(list(self._rows), np.int64),
                'last_rows': np.array(list(self._rows.values()), np.int64)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> 'PoseLog':
        """Return the log of a `state`; ValueError where its arrays do not go together."""
        try:
            n, made = len(state['stamps_ns']), cls()
            shapes = {'stamps_ns': (n,), 'poses': (n, 4, 4), 'states': (n,), 'submaps': (n,)}
            for name, shape in shapes.items():
                if state[name].shape != shape:
                    raise ValueError(f'state: {name} must have shape {shape}, got '
                                     f'{state[name].shape}')
                old = getattr(made, f'_{name}')
                grown = np.zeros((max(n, _FIRST_ROWS), *shape[1:]), old.dtype)
                grown[:n] = state[name]
                setattr(made, f'_{name}', grown)
            made._rows = dict(zip(state['last_ids'].tolist(), state['last_rows'].tolist()))
        except KeyError as error:
            raise ValueError(f'state: lacks {error}') from None
        if not all(0 <= row < n for row in made._rows.values()):
            raise ValueError(f'state: last_rows must be below {n}')
        made._n = n
        return made

    def add(self, prediction: Prediction, stamps_ns: np.ndarray, is_revision: bool,
            submap_id: int = 0) -> None:
        """Append the new frames of an aligned window, and revise those it shares.

        Of the shared frames the first half keeps the pose of the older window (there they were
        in its middle), the rest take the newer one, if ``is_revision``. A measured pose always
        replaces a guessed one, never the other way round.
        """
        shared = [n for n, i in enumerate(prediction.frame_ids.tolist()) if i in self._rows]
        keep = set(shared[:len(shared) // 2])
        rows: Dict[int, int] = {}
        for n, frame_id in enumerate(prediction.frame_ids.tolist()):
            pose, state = prediction.T_window_camera[n], int(prediction.states[n])
            if frame_id not in self._rows:
                rows[frame_id] = self._append(int(stamps_ns[n]), pose, state, submap_id)
                continue
            row = rows[frame_id] = self._rows[frame_id]
            was_lost = self._states[row] == FrameState.LOST
            if is_revision and state != FrameState.LOST and (was_lost or n not in keep):
                self._poses[row], self._states[row] = pose, state
        self._rows = rows

    def _append(self, stamp_ns: int, pose: np.ndarray, state: int, submap_id: int) -> int:
        row = self._n
        if row == len(self._stamps_ns):
            for name in ('_stamps_ns', '_poses', '_states', '_submaps'):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        self._stamps_ns[row], self._poses[row] = stamp_ns, pose
        self._states[row], self._submaps[row] = state, submap_id
        self._n += 1
        return row

    def __len__(self) -> int:
        return self._n

    def trajectory(self) -> Trajectory:
        """Return all poses so far, in odom."""
        return Trajectory(self._stamps_ns[:self._n].copy(), self._poses[:self._n].copy())

    def corrected(self, T_odom_submap: Mapping[int, np.ndarray],
                  T_map_submap: Mapping[int, Sim3]) -> Trajectory:
        """Return all poses in the map: each frame moves with its submap.

        ``T_odom_submap`` (4, 4) is where submaps lie in odom.
        """
        poses, submaps = self._poses[:self._n].copy(), self._submaps[:self._n]
        starts = np.flatnonzero(np.diff(submaps, prepend=-1))
        for start, end in zip(starts, [*starts[1:], self._n]):
            submap_id = int(submaps[start])
            local = se3.relative(T_odom_submap[submap_id], poses[start:end])
            poses[start:end] = T_map_submap[submap_id].apply_to_poses(local)
        return Trajectory(self._stamps_ns[:self._n].copy(), poses)

    def first_rows(self) -> Dict[int, int]:
        """Return the row of the first frame of each submap."""
        submaps = self._submaps[:self._n]
        return {int(submaps[row]): int(row)
                for row in np.flatnonzero(np.diff(submaps, prepend=-1))}

    def states(self) -> np.ndarray:
        """Return the FrameState (K,) uint8 of each pose."""
        return self._states[:self._n].copy()
