"""The SLAM node: one camera's images in; odometry, transforms, path and map out.

usage: ros2 run longrecon_ros slam_node [--ros-args -r image:=TOPIC -p NAME:=VALUE ...]

in:       image (or image/compressed), camera_info beside it, /tf, /tf_static;
          wheel_odometry or depth where scale.source asks for them
out:      ~/odometry, ~/path, ~/cloud, ~/tiles, ~/tile_poses, ~/grid, ~/status,
          /tf (map -> odom -> base_link), /diagnostics
services: ~/pause, ~/resume, ~/reset, ~/save, ~/save_map, ~/load_map (std_srvs/Trigger),
          ~/set_localization (std_srvs/SetBool); those of a managed node
Parameters are those of config/default.yaml; docs/ros.md says more.
"""

import logging
import os
import signal
import sys
import time
from typing import Any, Callable, List, Optional

import cv2
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from ..errors import LongreconError
from ..io.image_message import RgbDecoder
from .engine import Engine
from .environment import ros_defaults
from .inputs import Inputs
from .log_bridge import LogBridge
from .outputs import Outputs
from .parameters import declare, watch
from .services import Services
from .status import Status

_WAKE_S = 0.2       # between two looks for a signal
_FLUSH_S = 30.0     # for the last window at the end

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SlamNode(LifecycleNode):
    """Ties inputs, the engine and outputs together, as a managed node.

    ``configure`` loads the backbone (in the worker's process), ``activate`` subscribes,
    ``deactivate`` only stops listening: the map stays. All methods run in the executor's thread;
    what comes from other threads wakes it through a guard condition.
    """

    def __init__(self):
        super().__init__('longrecon', automatically_declare_parameters_from_overrides=True)
        self.signals: List[int] = []        # that ask the process to end
        logging.getLogger('longrecon_ros').addHandler(LogBridge(self))
        self.settings, self.live = declare(self)
        watch(self, self.live)
        self.engine: Optional[Engine] = None
        self.inputs: Optional[Inputs] = None
        self.outputs: Optional[Outputs] = None
        self.requests = Services(self)
        self._guard = self.create_guard_condition(self._take_outputs)
        change = getattr(self, '_service_change_state', None)       # rclpy's own
        if change is not None:
            change.callback = self._refusing(change.callback)
        self.status = Status(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        # not the node's clock: with simulated time it stands still when a recording ends
        self._clocks = [
            self.create_timer(self.live.config.status_period_s, self.status.publish, clock=steady),
            self.create_timer(0.5, self._look_after, clock=steady)]

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and wait until its backbone is ready."""
        self.status.begin()
        try:
            self.engine = Engine(self.settings, self.live, RgbDecoder(), self._guard.trigger,
                                 self.status.latency)
            self.engine.wait_until_ready(lambda: self.signals)
        except (LongreconError, OSError) as error:
            self.get_logger().error(f'cannot be configured: {error}')
            self.status.failure = str(error)
            self._drop_engine()
            return FAILURE
        self.outputs = Outputs(self, self.engine)
        facts = self.engine.facts
        self.get_logger().info(f'backbone {facts["backbone"]}, worker process {facts["pid"]}'
                               + (', UNTRAINED' if facts['is_untrained'] else ''))
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen."""
        self.inputs = Inputs(self, self.engine)
        self.outputs.start()
        self.get_logger().info(f'waiting for images on {self.inputs.camera.topic}')
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; what is under way is finished, and the map stays."""
        self._drop_inputs()
        self.outputs.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the backbone and the map."""
        self._drop_all()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything."""
        self._drop_all()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything, so that it can be configured again."""
        self._drop_all()
        return SUCCESS

    def start(self) -> None:
        """Configure and activate, where no lifecycle manager does."""
        if self.trigger_configure() is SUCCESS:
            self.trigger_activate()

    def finish(self, executor: SingleThreadedExecutor) -> None:
        """Process and publish what waits for its window."""
        if self.engine is None or self.outputs is None:
            return
        if self.live.config.queue_policy == 'latest':
            self.engine.front.clear_images()
        self._drop_inputs()
        flushed = self.requests.ask('flush')
        end_s = time.monotonic() + _FLUSH_S
        while not flushed.done() and time.monotonic() < end_s:
            executor.spin_once(timeout_sec=_WAKE_S)
        self.outputs.finish()

    def close(self) -> None:
        """Release everything."""
        self._drop_all()
        self.destroy_node()

    def _refusing(self, change: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Return the service ~/change_state, which rclpy lets end the node by a wrong number."""
        def answer(request: Any, response: Any) -> Any:
            try:
                return change(request, response)
            except RuntimeError as error:       # of rcl, before anything has changed
                self.get_logger().warning(f'~/change_state: {" ".join(str(error).split())}')
                response.success = False
                return response
        return answer

    def _take_outputs(self) -> None:
        if self.engine is None:
            return
        for output in self.engine.outputs():
            self.status.take(output)
            if isinstance(output, dict):
                self._take_message(output)
            elif self.outputs is not None:
                self.outputs.take(output)

    def _take_message(self, message: dict) -> None:
        kind, log = message['kind'], self.get_logger()
        if kind == 'answer':
            self.requests.answered(message)
        elif kind == 'log':
            logging.getLogger('longrecon_ros.worker').log(message['level'], message['text'])
        elif kind == 'died':
            log.error(f'{message["text"]}; it is started again with the map so far')
            if message['lines']:
                log.info('its last words:\n' + '\n'.join(message['lines']))
        elif kind == 'gave_up':
            log.error(message['text'])
        elif kind == 'ready' and self.engine.supervisor.n_restarts and self.outputs is not None:
            self.outputs.begin()
            log.warning(f'the worker is back (process {message["pid"]}, windows of '
                        f'{message["size"]})')
        elif self.outputs is not None:
            self.outputs.take_message(message)

    def _look_after(self) -> None:
        """Tell the worker who listens."""
        if self.outputs is not None:
            self.outputs.look_for_listeners()

    def _drop_inputs(self) -> None:
        if self.inputs is not None:
            self.inputs.close()
            self.status.retire(self.inputs)
            self.inputs = None

    def _drop_engine(self) -> None:
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def _drop_all(self) -> None:
        self._drop_inputs()
        self._drop_engine()
        self.requests.break_off()
        if self.outputs is not None:
            self.outputs.close()
            self.outputs = None


def main(args: Optional[List[str]] = None) -> int:
    """Run the node until SIGINT or SIGTERM; return the exit code: 2 after a user's mistake."""
    if {'-h', '--help'} & set(sys.argv[1:]):
        sys.stdout.write(__doc__)
        return 0
    os.environ.update(ros_defaults(os.environ))
    # of several threads the last one counts, which waits for a core that the worker has
    cv2.setNumThreads(1)
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
    node, executor = SlamNode(), SingleThreadedExecutor()

    def on_signal(number: int, _: Any) -> None:
        node.signals.append(number)
        signal.signal(number, signal.SIG_DFL)       # a second one does not wait

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    executor.add_node(node)
    try:
        if node.live.config.autostart:
            node.start()
        while not node.signals:
            executor.spin_once(timeout_sec=_WAKE_S)
        node.finish(executor)
    finally:
        node.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
