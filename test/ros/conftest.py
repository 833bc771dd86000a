"""ROS tests talk over DDS on this machine only, in a domain of their own."""

import os

import pytest

from longrecon_ros.ros.environment import local_domain, ros_defaults

# before rclpy is imported by a test, for this process and the nodes it starts
os.environ.update({**ros_defaults(os.environ), **local_domain(os.environ)})


def pytest_collection_modifyitems(items):
    """Mark everything in this folder."""
    for item in items:
        if 'test/ros' in item.path.as_posix():
            item.add_marker(pytest.mark.ros)
