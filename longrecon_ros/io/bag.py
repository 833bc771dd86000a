"""A ROS 1 or ROS 2 bag as a source of frames."""

from collections.abc import Iterator
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BagError
from ..types import Frame, Trajectory
from .bag_poses import read_groundtruth, stamp_ns
from .bag_reader import open_bag
from .bag_topics import (
    choose_image_topic,
    find_info_topic,
    find_pose_topic,
    is_rectified,
    list_topics,
    Topics,
)
from .calibration import Calibration
from .camera_info import calibration_of
from .frame_maker import FrameMaker
from .image_message import to_rgb

_log = logging.getLogger(__name__)


class BagSource:
    """Images of one topic of a bag, raw or compressed, with the stamps of their headers.

    Calibration is that of the CameraInfo topic beside the images unless ``calibration`` is given;
    ground truth that of ``gt_topic``, or of a topic with ground truth in its name, brought to the
    camera by ``/tf_static``. Images whose stamp is not after the one before are left out and
    counted; without stamps (all 0) the times of recording are taken. Fewer images than the bag
    says are an error at the end unless ``allow_truncated``. Raises ``BagError`` for whatever is
    missing, damaged or unclear.
    """

    def __init__(self, path: Path, topic: str | None = None, gt_topic: str | None = None,
                 allow_truncated: bool = False, calibration: Calibration | None = None):
        self._path = Path(path)
        self._allow_truncated = allow_truncated
        self.warnings: list[str] = []
        with open_bag(self._path) as reader:
            self.topics: Topics = list_topics(reader)
            self._topic = choose_image_topic(self.topics, topic, self._path)
            self._pose_topic = find_pose_topic(self.topics, gt_topic, self._path)
            first = next(self._messages(reader, self._topic))[1]
            self._camera_frame = first.header.frame_id
            self._has_stamps = stamp_ns(first) != 0
            self._calibration, self._origin = calibration, 'the calibration given'
            if calibration is None:
                self._read_calibration(reader)
        if not self._has_stamps:
            self.warnings.append(f'The images on {self._topic} carry no stamps: the times of '
                                 'recording are used.')

    def __iter__(self) -> Iterator[Frame]:
        maker = FrameMaker(self._calibration, self._origin)
        index, last_ns, n_dropped = 0, None, 0
        with open_bag(self._path) as reader:
            for recorded_ns, message in self._messages(reader, self._topic):
                now_ns = stamp_ns(message) if self._has_stamps else recorded_ns
                if last_ns is not None and now_ns <= last_ns:
                    n_dropped += 1
                    continue
                name = f'{self._path}, {self._topic}, image {index + n_dropped}'
                yield maker.make(index, now_ns, to_rgb(message, name), name)
                index, last_ns = index + 1, now_ns
            self._check_end(index + n_dropped)
        if n_dropped:
            self._warn(f'{n_dropped} images on {self._topic} repeat a stamp or go back in time; '
                       'they are left out.')

    def __len__(self) -> int:
        return self.topics[self._topic][1]

    def describe(self) -> str:
        return f'bag {self._path}, topic {self._topic}'

    def groundtruth(self) -> Trajectory | None:
        if self._pose_topic is None:
            return None
        with open_bag(self._path) as reader:
            trajectory, warning = read_groundtruth(reader, self._pose_topic, self._camera_frame)
        if warning:
            self._warn(warning)
        return trajectory

    def depth(self, index: int) -> np.ndarray | None:
        return None

    def _read_calibration(self, reader) -> None:
        topic = find_info_topic(self.topics, self._topic)
        if topic is None:
            return
        _, message = next(self._messages(reader, topic))
        self._origin = f'{self._path}, topic {topic}'
        self._calibration = calibration_of(message, is_rectified(self._topic), self._origin)
        if self._calibration is None:
            self.warnings.append(f'The camera says on {topic} that it is not calibrated.')

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            _log.warning('%s: %s', self._path, text)

    def _check_end(self, n_read: int) -> None:
        n = len(self)
        if n_read < n and not self._allow_truncated:
            raise BagError(f'{self._path}: the bag breaks off: {n_read} of {n} images on '
                           f'{self._topic} can be read; add --allow-truncated to use them')
        if n_read < n:
            self._warn(f'The bag breaks off: {n_read} of {n} images can be read.')

    def _messages(self, reader, topic: str) -> Iterator[tuple[int, Any]]:
        """Yield (time of recording in ns, message) of one topic; raises if there is none."""
        connections = [c for c in reader.connections if c.topic == topic]
        n_read = 0
        for connection, recorded_ns, raw in reader.messages(connections):
            yield recorded_ns, reader.deserialize(raw, connection.msgtype)
            n_read += 1
        if not n_read:
            raise BagError(f'{self._path}: no message can be read on {topic}')
