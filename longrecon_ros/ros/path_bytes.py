"""A nav_msgs/Path as its bytes on the wire, without a Python object for every pose.

rclpy takes 0.2 ms for a pose that is made and serialised (GIL held): a path of some thousand poses
would keep odometry waiting. The format is plain CDR, little endian (OMG DDSI-RTPS 2.5, 10.2).
"""

from typing import Sequence

import numpy as np

from ..geometry import se3

_ENCAPSULATION = b'\x00\x01\x00\x00'
_NS = 1_000_000_000


def path_bytes(stamps_ns: Sequence[int], T_map_base: np.ndarray, frame: str) -> bytes:
    """Return poses (K, 4, 4) with their stamps, ns, as a serialised path.

    Its own stamp is the last one; 0 when it is empty.
    """
    stamps = np.asarray(stamps_ns, np.int64)
    T = np.asarray(T_map_base, np.float64).reshape(-1, 4, 4)
    name = frame.encode() + b'\x00'
    last = stamps[-1:] if len(stamps) else np.zeros(1, np.int64)
    start = _heads(last, name).tobytes()
    start += b'\x00' * (-len(start) % 4) + np.uint32(len(stamps)).astype('<u4').tobytes()
    if not len(stamps):
        return _ENCAPSULATION + start
    # the first pose may begin between two multiples of 8, the others do not
    return b''.join([_ENCAPSULATION, start, _poses(stamps[:1], T[:1], name, len(start)),
                     _poses(stamps[1:], T[1:], name, 0)])


def _head_fields(name: bytes) -> list:
    return [('sec', '<i4'), ('nanosec', '<u4'), ('length', '<u4'), ('name', f'V{len(name)}')]


def _heads(stamps: np.ndarray, name: bytes) -> np.ndarray:
    heads = np.zeros(len(stamps), _head_fields(name))
    _fill(heads, stamps, name)
    return heads


def _fill(rows: np.ndarray, stamps: np.ndarray, name: bytes) -> None:
    rows['sec'], rows['nanosec'] = stamps // _NS, stamps % _NS
    rows['length'], rows['name'] = len(name), np.void(name)


def _poses(stamps: np.ndarray, T: np.ndarray, name: bytes, offset: int) -> bytes:
    """Return PoseStamped after PoseStamped, the first one at ``offset`` in the stream."""
    n_pad = -(offset + 12 + len(name)) % 8
    pad = [('pad', f'V{n_pad}')] if n_pad else []
    rows = np.zeros(len(stamps), [*_head_fields(name), *pad, ('position', '<f8', 3),
                                  ('orientation', '<f8', 4)])
    _fill(rows, stamps, name)
    rows['position'] = T[:, :3, 3]
    rows['orientation'] = se3.quaternion_xyzw_from_rotation(T[:, :3, :3])
    return rows.tobytes()
