"""Means to test launch files: a stand-in for launch, and the real one with the node it starts."""

from contextlib import ExitStack
import os
import signal
import subprocess
import time
import types

import pytest

from longrecon_ros.ros.environment import own_domain


class Made:
    """An action or substitution: the name of its class and what it was made with."""

    def __init__(self, kind, *arguments, **keywords):
        self.kind, self.arguments, self.keywords = kind, arguments, keywords


class StandIn(types.ModuleType):
    """A module of launch whose classes make `Made`."""

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return lambda *arguments, **keywords: Made(name, *arguments, **keywords)


class Launched:
    """online.launch.py in processes of its own; use as a context.

    The node is driven over the services that every managed node has, as a manager does it.
    """

    def __init__(self, folder, **arguments):
        from ament_index_python.packages import get_package_share_directory, PackageNotFoundError
        try:
            get_package_share_directory('longrecon_ros')
        except PackageNotFoundError:
            pytest.skip('longrecon_ros is not built: colcon build, and source install/setup.bash')
        self._log, self._stack = folder / 'launch.txt', ExitStack()
        self._command = ['ros2', 'launch', 'longrecon_ros', 'online.launch.py',
                         *(f'{name}:={value}' for name, value in arguments.items())]

    def __enter__(self):
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        self._stack.enter_context(own_domain())
        self._context = Context()
        self._context.init()
        self.node = Node('launch_test', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._output = self._log.open('w')
        # a group of its own: SIGINT must reach launch, and a shell's background has it ignored
        self._process = subprocess.Popen(self._command, stdout=self._output,
                                         stderr=subprocess.STDOUT, start_new_session=True)
        return self

    def __exit__(self, *problem):
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._output.close()
        self.node.destroy_node()
        self._context.try_shutdown()
        self._stack.close()

    def call(self, kind, name, request, timeout_s=60.0):
        """Return the answer of a service of the node."""
        client = self.node.create_client(kind, f'/longrecon/{name}')
        assert client.wait_for_service(timeout_s), self._log.read_text()
        answer = client.call_async(request)
        self._executor.spin_until_future_complete(answer, timeout_s)
        assert answer.done(), self._log.read_text()
        self.node.destroy_client(client)
        return answer.result()

    def state(self):
        """Return the name of the node's state."""
        from lifecycle_msgs.srv import GetState
        return self.call(GetState, 'get_state', GetState.Request()).current_state.label

    def wait_for(self, state, timeout_s=60.0):
        """Wait until the node is in a state; AssertionError with launch's output otherwise."""
        end = time.monotonic() + timeout_s
        while self.state() != state:
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(0.1)

    def change(self, transition):
        """Ask for a transition by name and return whether the node made it."""
        from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions
        offered = self.call(GetAvailableTransitions, 'get_available_transitions',
                            GetAvailableTransitions.Request()).available_transitions
        request = ChangeState.Request()
        request.transition = next(one.transition for one in offered
                                  if one.transition.label == transition)
        return self.call(ChangeState, 'change_state', request).success

    def interrupt(self, timeout_s=30.0):
        """Interrupt launch, wait for its end, and return what it has printed."""
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(timeout_s)
        return self._log.read_text()
