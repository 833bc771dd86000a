"""Packing a PointCloud2: by sensor_msgs_py where it is installed, else by what stands here."""

import sys

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

_FIELDS = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
           for i, name in enumerate(('x', 'y', 'z', 'rgb'))]


def create_xyzrgb(header: Header, rows: np.ndarray) -> PointCloud2:
    """Return rows (P, 4) f32 (x, y, z, and rgb as the bits 0x00RRGGBB) as a dense cloud."""
    return _create_cloud(header, _FIELDS, rows)


def stand_in(header: Header, fields: list, rows: np.ndarray) -> PointCloud2:
    """Do what sensor_msgs_py.point_cloud2.create_cloud does for float32 fields side by side."""
    message = PointCloud2(header=header, height=1, width=len(rows), fields=fields,
                          is_bigendian=sys.byteorder == 'big', point_step=4 * len(fields),
                          row_step=4 * len(fields) * len(rows), is_dense=True)
    # the setter would go through an ndarray one element at a time
    message.data.frombytes(np.ascontiguousarray(rows, np.float32).reshape(-1).view(np.uint8))
    return message


try:
    from sensor_msgs_py.point_cloud2 import create_cloud as _create_cloud
except ImportError:
    _create_cloud = stand_in
