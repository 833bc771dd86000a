"""Which topics of a bag are the images, their calibration, and the ground truth."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import BagError

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
POSE_TYPES = ('nav_msgs/msg/Odometry', 'geometry_msgs/msg/PoseStamped',
              'geometry_msgs/msg/PoseWithCovarianceStamped', 'geometry_msgs/msg/TransformStamped')
_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
_COMPRESSED = '/compressed'

Topics = Mapping[str, tuple[str, int]]
"""Name to (message type, number of messages)."""


def list_topics(reader) -> Topics:
    """Return the topics of an open `rosbags` reader, by name."""
    return {name: (info.msgtype or 'several types', info.msgcount)
            for name, info in sorted(reader.topics.items())}


def choose_image_topic(topics: Topics, wanted: str | None, bag: Path) -> str:
    """Return the image topic: the wanted one, or the only camera there is.

    A camera that was recorded raw and compressed counts once, and raw is taken. Depth images are
    no candidates. ``wanted`` may be the name without ``/compressed``.

    Raises
    ------
    BagError
        The wanted topic is absent, empty or no image topic, or there is none or more than one
        camera; the message lists what is there.

    """
    cameras = {name: entry for name, entry in topics.items()
               if entry[0] in IMAGE_TYPES and entry[1] and 'depth' not in name.lower()}
    if wanted is not None:
        return _wanted_topic(topics, cameras, '/' + wanted.lstrip('/'), bag)
    if not cameras:
        raise BagError(f'{bag}: there is no image topic with messages; topics are: '
                       f'{_listing(topics)}')
    if len({_base(name) for name in cameras}) > 1:
        raise BagError(f'{bag}: {len(cameras)} image topics, choose one with --topic: '
                       f'{_listing(cameras)}')
    return min(cameras, key=len)


def find_info_topic(topics: Topics, image_topic: str) -> str | None:
    """Return the CameraInfo topic beside an image topic, else the only one there is, or None."""
    infos = [name for name, entry in topics.items() if entry[0] == _INFO_TYPE and entry[1]]
    sibling = _base(image_topic).rpartition('/')[0] + '/camera_info'
    if sibling in infos:
        return sibling
    return infos[0] if len(infos) == 1 else None


def find_pose_topic(topics: Topics, wanted: str | None, bag: Path) -> str | None:
    """Return the ground truth topic: the wanted one, or one that has ground truth in its name.

    Raises ``BagError`` listing the pose topics when the wanted one is not among them.
    """
    poses = {name: entry for name, entry in topics.items() if entry[0] in POSE_TYPES and entry[1]}
    if wanted is None:
        return next((name for name in poses
                     if 'groundtruth' in name.lower().replace('_', '')), None)
    wanted = '/' + wanted.lstrip('/')
    if wanted not in poses:
        raise BagError(f'{bag}: {wanted} is no topic of poses; such topics are: '
                       f'{_listing(poses)}')
    return wanted


def is_rectified(image_topic: str) -> bool:
    """Tell by the name (``image_rect``, ``image_rect_color``) if distortion is removed already."""
    return 'rect' in _base(image_topic).rpartition('/')[2]


def _wanted_topic(topics: Topics, cameras: Topics, wanted: str, bag: Path) -> str:
    for name in (wanted, wanted + _COMPRESSED):
        kind, n_messages = topics.get(name, ('', 0))
        if kind in IMAGE_TYPES and n_messages:
            return name
    if wanted not in topics:
        raise BagError(f'{bag}: there is no topic {wanted}; image topics are: '
                       f'{_listing(cameras)}')
    kind, n_messages = topics[wanted]
    what = 'has no messages' if not n_messages else f'holds {kind}, not images'
    raise BagError(f'{bag}: topic {wanted} {what}; image topics are: {_listing(cameras)}')


def _base(topic: str) -> str:
    return topic[:-len(_COMPRESSED)] if topic.endswith(_COMPRESSED) else topic


def _listing(topics: Topics) -> str:
    def parts() -> Iterable[str]:
        for name, (kind, n_messages) in topics.items():
            yield f'{name} ({kind}, {n_messages} messages)'
    return ', '.join(parts()) or 'none'
