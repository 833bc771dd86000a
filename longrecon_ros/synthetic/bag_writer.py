"""Synthetic recordings as rosbag2 bags, written with `rosbags`."""

from dataclasses import dataclass
import json
import os
from pathlib import Path
import tempfile
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np

from ..atomic import check_output_folder
from ..errors import MissingDependency
from ..geometry import se3
from .bag_messages import MessageMaker
from .stream import Film, SyntheticFrame

IMAGE_TOPIC = '/camera/image_raw'
COMPRESSED_TOPIC = '/camera/image_raw/compressed'
INFO_TOPIC = '/camera/camera_info'
TRUTH_TOPIC = '/ground_truth/odometry'
MAP_FRAME, BASE_FRAME, CAMERA_FRAME = 'map', 'base_link', 'camera_optical_frame'
TRUE_MAP_FRAME, TRUE_BASE_FRAME = 'ground_truth_map', 'ground_truth_base_link'
CUSTOM_DATA_KEY = 'longrecon_synthetic'

_METADATA_VERSION = 8
_IMAGES = ('raw', 'jpeg', 'png')
_STORAGES = ('mcap', 'sqlite3')


@dataclass(frozen=True, slots=True)
class BagFormat:
    """How a bag is written."""

    storage: str = 'mcap'                   # or sqlite3
    images: str = 'raw'                     # rgb8; or CompressedImage as jpeg or png
    use_truth_tf: bool = False              # the true pose on /tf, too, under its own frame names

    def __post_init__(self):
        if self.storage not in _STORAGES:
            raise ValueError(f'BagFormat.storage: expected one of {", ".join(_STORAGES)}, '
                             f'got {self.storage!r}')
        if self.images not in _IMAGES:
            raise ValueError(f'BagFormat.images: expected one of {", ".join(_IMAGES)}, '
                             f'got {self.images!r}')


def write_bag(path: Path, film: Film, T_base_camera: np.ndarray, n_frames: int,
              bag_format: Optional[BagFormat] = None, notes: Optional[Mapping[str, Any]] = None,
              progress: Optional[Callable[[int], None]] = None) -> None:
    """Write a rosbag2 folder: images, CameraInfo, the camera's place on the robot, true poses.

    Header stamps and times of recording are those of the frames. The true pose of ``base_link``
    in ``map`` (the world) is on `TRUTH_TOPIC`; ``/tf_static`` holds ``base_link`` to
    ``camera_optical_frame``. ``notes`` go into the metadata as JSON. The bag appears when it is
    complete; ``progress`` is called with the number of frames done.

    Raises
    ------
    InputError
        ``path`` is a file, a folder that is not empty, or cannot be written.
    MissingDependency
        `rosbags` is not installed.

    """
    try:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import get_typestore, Stores
    except ImportError:
        raise MissingDependency('writing bags needs the package rosbags: '
                                'pip install rosbags') from None
    bag_format = bag_format or BagFormat()
    path = Path(path).absolute()
    check_output_folder(path, force=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    store = get_typestore(Stores.ROS2_HUMBLE)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.') as staging:
        bag = Path(staging) / path.name
        writer = Writer(bag, version=_METADATA_VERSION,
                        storage_plugin=StoragePlugin[bag_format.storage.upper()])
        writer.set_custom_data(CUSTOM_DATA_KEY, json.dumps(notes or {}, sort_keys=True))
        with writer:
            recorder = _Recorder(writer, store)
            maker = MessageMaker(store.types)
            recorder.write('/tf_static', film.stamp_ns(0), maker.transform(
                T_base_camera, film.stamp_ns(0), BASE_FRAME, CAMERA_FRAME))
            for index in range(n_frames):
                for topic, message in _messages(maker, film, film.frame(index), T_base_camera,
                                                bag_format):
                    recorder.write(topic, film.stamp_ns(index), message)
                if progress is not None:
                    progress(index + 1)
        if path.is_dir():
            path.rmdir()
        os.rename(bag, path)


def _messages(maker: MessageMaker, film: Film, frame: SyntheticFrame, T_base_camera: np.ndarray,
              bag_format: BagFormat) -> Iterator[Tuple[str, Any]]:
    """Yield topic and message of everything that belongs to one frame."""
    stamp_ns = frame.stamp_ns
    yield INFO_TOPIC, maker.camera_info(film.camera, stamp_ns, CAMERA_FRAME)
    if bag_format.images == 'raw':
        yield IMAGE_TOPIC, maker.image(frame.image, stamp_ns, CAMERA_FRAME)
    else:
        yield COMPRESSED_TOPIC, maker.compressed(frame.image, stamp_ns, CAMERA_FRAME,
                                                 bag_format.images)
    T_map_base = frame.T_world_camera @ se3.inverse(T_base_camera)
    velocity = film.velocity(frame.index, T_base_camera)
    yield TRUTH_TOPIC, maker.odometry(T_map_base, velocity, stamp_ns, MAP_FRAME, BASE_FRAME)
    if bag_format.use_truth_tf:
        yield '/tf', maker.transform(T_map_base, stamp_ns, TRUE_MAP_FRAME, TRUE_BASE_FRAME)


class _Recorder:
    """Adds connections as topics appear, with the quality of service that players must offer."""

    def __init__(self, writer, store):
        self._writer, self._store = writer, store
        self._connections: Dict[str, Any] = {}

    def write(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Write one message."""
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._store,
                offered_qos_profiles=[_quality(is_latched=topic == '/tf_static')])
        self._writer.write(self._connections[topic], stamp_ns,
                           self._store.serialize_cdr(message, kind))


def _quality(is_latched: bool) -> Any:
    """Return the QoS to note in the bag: reliable, and kept for late joiners when latched."""
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    forever = QosTime(sec=9223372036, nsec=854775807)
    durability = QosDurability.TRANSIENT_LOCAL if is_latched else QosDurability.VOLATILE
    return Qos(history=QosHistory.KEEP_LAST, depth=1 if is_latched else 10,
               reliability=QosReliability.RELIABLE, durability=durability, deadline=forever,
               lifespan=forever, liveliness=QosLiveliness.AUTOMATIC,
               liveliness_lease_duration=forever, avoid_ros_namespace_conventions=False)
