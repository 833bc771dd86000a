"""Gathers from the updates of a run what its results need, in bounded memory."""

from collections import deque
from collections.abc import Callable

import cv2
import numpy as np

from ..evaluation import DepthScores, WindowCentres
from ..evaluation.depth import CONFIDENT
from ..types import FrameState, Prediction, Update
from .record import RunStatistics, Sample, WindowLog

N_SAMPLES = 6
N_SPANS = 200
_SAMPLE_SIDE_PX = 320

TrueDepth = Callable[[int, tuple[int, int]], np.ndarray | None]
"""(frame id, (width, height)) to the true depth (height, width) f32 m, or None."""


class RunRecorder:
    """Listens to a pipeline: give it every `Update`, then ask for the `statistics`.

    ``true_depth`` is asked once for every new frame, if given. Memory grows by half a kilobyte a
    window (its camera centres); pictures are kept of at most twelve frames, thinned out as the
    run gets longer, and the spans of the last windows only.
    """

    def __init__(self, true_depth: TrueDepth | None = None):
        self._true_depth = true_depth
        self._windows: list[WindowLog] = []
        self._stamps_ns: dict[int, int] = {}            # of the frames of the last window
        self._stage_ms: dict[str, float] = {}
        self._size: tuple[int, int] | None = None
        self._n_pixels = self._n_confident = 0
        self._depth = DepthScores()
        self._samples: list[Sample] = []
        self._n_seen, self._stride = 0, 1
        self._spans_s = deque(maxlen=N_SPANS)

    def add(self, update: Update) -> None:
        """Take note of one update."""
        self._windows.append(WindowLog(
            int(update.stamps_ns[0]), update.linked, update.log_scale, len(update.stamps_ns),
            float(sum(update.timings_ms.values())), self._centres(update)))
        if update.spans_s:
            self._spans_s.append(update.spans_s)
        for stage, ms in update.timings_ms.items():
            self.add_time(stage, ms)
        prediction = update.prediction
        self._size = prediction.confidence.shape[2], prediction.confidence.shape[1]
        rows = {frame_id: row for row, frame_id in enumerate(prediction.frame_ids.tolist())}
        for frame_id, stamp_ns in zip(update.frame_ids.tolist(), update.stamps_ns.tolist()):
            self._add_frame(prediction, rows[frame_id], stamp_ns)

    def add_time(self, stage: str, ms: float) -> None:
        """Add time to a stage; stages outside the pipeline (reading) are welcome."""
        self._stage_ms[stage] = self._stage_ms.get(stage, 0.0) + ms

    def statistics(self) -> RunStatistics:
        """Return what was gathered so far."""
        chosen = np.unique(np.linspace(0, len(self._samples) - 1, N_SAMPLES).round().astype(int)) \
            if self._samples else []
        return RunStatistics(
            tuple(self._windows), dict(self._stage_ms), self._size, self._n_pixels,
            self._n_confident, tuple(self._samples[k] for k in chosen),
            self._depth if self._depth.n_frames else None, tuple(self._spans_s))

    def _centres(self, update: Update) -> WindowCentres:
        """Return the camera centres of the whole window; its overlap has known stamps."""
        prediction = update.prediction
        new = dict(zip(update.frame_ids.tolist(), update.stamps_ns.tolist()))
        known = {**self._stamps_ns, **new}
        rows = [row for row, index in enumerate(prediction.frame_ids.tolist())
                if index in known and prediction.states[row] != FrameState.LOST]
        self._stamps_ns = {index: known[index] for index in prediction.frame_ids.tolist()
                           if index in known}
        stamps_ns = [known[index] for index in prediction.frame_ids[rows].tolist()]
        return WindowCentres(np.array(stamps_ns, np.int64),
                             prediction.T_window_camera[rows, :3, 3], update.linked)

    def _add_frame(self, prediction: Prediction, row: int, stamp_ns: int) -> None:
        confidence = prediction.confidence[row]
        self._n_pixels += confidence.size
        self._n_confident += int(np.count_nonzero(confidence > CONFIDENT))
        truth = None
        if self._true_depth is not None:
            truth = self._true_depth(int(prediction.frame_ids[row]), self._size)
        if truth is not None:
            self._depth.add(prediction.depth[row], confidence, truth)
        if self._n_seen % self._stride == 0:
            self._samples.append(_reduced(prediction, row, stamp_ns, truth))
            if len(self._samples) == 2 * N_SAMPLES:
                del self._samples[1::2]
                self._stride *= 2
        self._n_seen += 1


def _reduced(prediction: Prediction, row: int, stamp_ns: int,
             truth: np.ndarray | None) -> Sample:
    h, w = prediction.confidence.shape[1:]
    scale = min(1.0, _SAMPLE_SIDE_PX / max(h, w))
    size = (max(1, round(w * scale)), max(1, round(h * scale)))

    def nearest(image: np.ndarray) -> np.ndarray:
        return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_NEAREST)

    return Sample(int(prediction.frame_ids[row]), stamp_ns, int(prediction.states[row]),
                  cv2.resize(prediction.rgb[row], size, interpolation=cv2.INTER_AREA),
                  nearest(prediction.depth[row]), nearest(prediction.confidence[row]),
                  None if truth is None else nearest(truth))
