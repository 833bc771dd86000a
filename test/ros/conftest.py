"""ROS tests talk over DDS on this machine only, in a domain of their own."""

from contextlib import ExitStack

import pytest

from longrecon_ros.ros.environment import own_domain

# before rclpy is imported by a test, for this process and the nodes it starts, to its end
_STACK = ExitStack()
_STACK.enter_context(own_domain())


@pytest.fixture
def context():
    """Return a context of rclpy in a domain that nobody else is in."""
    from rclpy.context import Context
    with own_domain():
        context = Context()
        context.init()
        yield context
        context.try_shutdown()


def pytest_collection_modifyitems(items):
    """Mark everything in this folder."""
    for item in items:
        if 'test/ros' in item.path.as_posix():
            item.add_marker(pytest.mark.ros)
