"""Frames that carry their true depth and pose, for backbones that predict from them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..evaluation.association import MAX_DT_S, nearest_in_time
from ..types import Frame, FrameTruth, Trajectory

if TYPE_CHECKING:
    from .source import FrameSource


class TrueFrames:
    """A source whose every frame carries its `FrameTruth`, taken from the source's own truth.

    A frame gets the true pose nearest in time, at most 0.02 s away. Raises ``InputError`` when the
    source has no true poses or no true depth, and while iterating at a frame without a pose.
    """

    def __init__(self, source: 'FrameSource'):
        groundtruth = source.groundtruth()
        if groundtruth is None or not len(groundtruth):
            raise InputError(_missing(source, 'there are no true poses'))
        if source.depth(0) is None:
            raise InputError(_missing(source, 'there is no true depth'))
        self._source, self._groundtruth = source, groundtruth
        self.warnings = source.warnings

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            truth = FrameTruth(self._source.depth(frame.index), self._pose(frame))
            yield replace(frame, truth=truth)

    def __len__(self) -> int:
        return len(self._source)

    def describe(self) -> str:
        return self._source.describe()

    def groundtruth(self) -> Trajectory:
        return self._groundtruth

    def depth(self, index: int) -> np.ndarray | None:
        return self._source.depth(index)

    def _pose(self, frame: Frame) -> np.ndarray:
        stamps_ns = self._groundtruth.stamps_ns
        row = int(nearest_in_time(stamps_ns, np.array([frame.stamp_ns]))[0])
        dt_s = abs(int(stamps_ns[row]) - frame.stamp_ns) * 1e-9
        if dt_s > MAX_DT_S:
            raise InputError(
                f'{self.describe()}: frame {frame.index} has no true pose within {MAX_DT_S:g} s '
                f'(the nearest is {dt_s:.3g} s away); complete the true poses, or take frames '
                'that have them')
        return self._groundtruth.T_map_camera[row]


def _missing(source: 'FrameSource', what: str) -> str:
    return (f'{source.describe()}: {what}, and this backbone makes its predictions from depth and '
            'poses; give a folder with depth/ and gt_tum.txt, such as "longrecon synth" makes')
