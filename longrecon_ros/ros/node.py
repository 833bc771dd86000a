"""The SLAM node: one camera's images in; odometry, transforms, path and map out.

usage: ros2 run longrecon_ros slam_node [--ros-args -r image:=TOPIC -p NAME:=VALUE ...]

in:       image (or image/compressed), camera_info beside it, /tf_static
out:      ~/odometry, ~/path, ~/cloud, /tf (map -> odom -> base_link), /diagnostics
services: ~/save, ~/reset (std_srvs/Trigger)
Parameters are those of config/default.yaml.
"""

from functools import partial
import logging
import os
import signal
import sys
from typing import Any, Dict, List, Optional

import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from ..errors import InputError, LongreconError
from ..io.calibration import Calibration
from .base_motion import BaseMotion
from .camera import Camera
from .environment import ros_defaults
from .extrinsic import Extrinsic
from .log_bridge import LogBridge
from .parameters import declare
from .publishers import Publishers
from .session import Session, Step
from .status import Counts, Status
from .worker import Outcome, TOLD, Worker

_WAKE_S = 0.2       # between two looks for a signal
_REPORT_S = 5.0     # between two log lines about refused images


class SlamNode:
    """Ties subscriptions, the worker and the publishers together; `ros` is the rclpy node.

    All its methods run in the executor's thread. Inference runs in the worker, registration in a
    thread of its own beside it; the outcomes of both come back through a guard condition.
    """

    def __init__(self):
        self.ros = Node('longrecon', automatically_declare_parameters_from_overrides=True)
        logging.getLogger('longrecon_ros').addHandler(LogBridge(self.ros))
        config, self._config = declare(self.ros)
        self._replies: Dict[int, Future] = {}
        self._motion: Optional[BaseMotion] = None
        self._camera_frame = ''
        self._guard = self.ros.create_guard_condition(self._take_outcomes)
        self._worker = Worker(partial(Session, config, self._config),
                              self._guard.trigger, self._config.queue_size,
                              self._config.queue_policy)
        self._sink = Publishers(self.ros, self._config)
        self._extrinsic = Extrinsic(self.ros, self._config)
        self._camera = Camera(self.ros, self._config, self._take_image)
        self._status = Status(self.ros, self._camera, self._worker)
        # not the node's clock: with simulated time it stands still when a recording ends
        self._timer = self.ros.create_timer(self._config.status_period_s, self._status.publish,
                                            clock=Clock(clock_type=ClockType.STEADY_TIME))
        # their own group: they wait for what callbacks of the default group bring
        group = MutuallyExclusiveCallbackGroup()
        self._services = [
            self.ros.create_service(Trigger, '~/save', self._save, callback_group=group),
            self.ros.create_service(Trigger, '~/reset', self._reset, callback_group=group)]
        self.ros.get_logger().info(f'backbone {config.backbone}; waiting for images on '
                                   f'{self._camera.topic}')

    def finish(self, executor: SingleThreadedExecutor) -> None:
        """Process and publish what waits for its window."""
        if self._config.queue_policy == 'latest':
            self._worker.clear()
        flushed = self._ask('flush')
        while not flushed.done():
            executor.spin_once(timeout_sec=_WAKE_S)
        self._sink.finish()

    def close(self) -> None:
        """Release the node's resources."""
        self._worker.close()
        self.ros.destroy_node()

    def _take_image(self, message: Any, calibration: Optional[Calibration]) -> None:
        self._camera_frame = message.header.frame_id
        if self._config.use_extrinsic == 'require' and not self._is_mounted():
            self._camera.n_lost += 1
            return
        self._worker.offer(message, calibration, self._camera.topic)

    def _is_mounted(self) -> bool:
        """Say whether the camera's place on the base is known; from then on it stays."""
        if self._motion is None:
            T_base_camera = self._extrinsic.find(self._camera_frame)
            if T_base_camera is not None:
                self._motion = BaseMotion(T_base_camera, self._config.drift_ratio)
        return self._motion is not None

    def _take_outcomes(self) -> None:
        for outcome in self._worker.outcomes():
            if outcome.error is not None and not isinstance(outcome.error, InputError):
                raise outcome.error
            if isinstance(outcome.value, Step):
                self._take_step(outcome.value)
            if outcome.ticket == TOLD:
                continue
            if outcome.ticket:
                self._replies.pop(outcome.ticket).set_result(outcome)
            elif outcome.error is not None:
                self._refuse(outcome.error)
            else:
                self._status.counts.taken += 1

    def _take_step(self, step: Step) -> None:
        if step.was_reset:
            self._motion, self._status.counts = None, Counts()
            self._sink.reset()
        if step.update is not None and self._is_mounted():
            self._sink.write(step.update, self._motion, step.cloud)
            self._status.counts.add(step.update, self.ros.get_clock().now().nanoseconds)

    def _refuse(self, error: InputError) -> None:
        self._status.counts.refused += 1
        self._status.counts.problem = str(error)
        self.ros.get_logger().error(str(error), throttle_duration_sec=_REPORT_S)

    def _ask(self, method: str, *args) -> Future:
        """Have the worker call a method of the session; the future gives its `Outcome`."""
        future = Future()
        self._replies[self._worker.call(method, *args)] = future
        return future

    async def _save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Process the images that wait for their window, then write the files."""
        await self._ask('flush')
        self._sink.write_path()
        outcome = await self._ask('save')
        return self._answer(outcome, response)

    async def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forget map and trajectory; the next image begins a new odom."""
        self._worker.clear()
        outcome = await self._ask('reset')
        self._sink.write_path()
        return self._answer(outcome, response)

    def _answer(self, outcome: Outcome, response: Trigger.Response) -> Trigger.Response:
        response.success = outcome.error is None
        if outcome.error is not None:
            response.message = str(outcome.error)
        else:
            response.message = outcome.value if isinstance(outcome.value, str) else 'begun anew'
        self.ros.get_logger().info(response.message)
        return response


def main(args: Optional[List[str]] = None) -> int:
    """Run the node until SIGINT or SIGTERM; return the exit code: 2 after a user's mistake."""
    if {'-h', '--help'} & set(sys.argv[1:]):
        sys.stdout.write(__doc__)
        return 0
    os.environ.update(ros_defaults(os.environ))
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:           # what rcl says of a bad command line
        sys.stderr.write(f'slam_node: {" ".join(str(error).split())}; check the --ros-args\n')
        return 2
    try:
        return _run()
    except LongreconError as error:
        sys.stderr.write(f'slam_node: {error}\n')
        return 2
    finally:
        rclpy.try_shutdown()


def _run() -> int:
    signals: List[int] = []

    def on_signal(number: int, _: Any) -> None:
        signals.append(number)
        signal.signal(number, signal.SIG_DFL)       # a second one does not wait

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    node, executor = SlamNode(), SingleThreadedExecutor()
    executor.add_node(node.ros)
    try:
        while not signals:
            executor.spin_once(timeout_sec=_WAKE_S)
        node.finish(executor)
    finally:
        node.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
