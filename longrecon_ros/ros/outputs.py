"""What the node does with all that comes out of the engine."""

from collections import deque
import time
from typing import Any, Deque, Dict, Tuple

import numpy as np
from rclpy.clock import Clock, ClockType

from ..geometry import se3
from ..types import FrameState, PointCloud
from .compat import tf2
from .engine import Engine
from .estimator import Mapped
from .front import Posed, Segment
from .publishers import Publishers

_N_UNPLACED = 30        # images that wait for somebody else's odom


class Outputs:
    """Publishes for a `SlamNode`; map -> odom goes out by a timer while the node is active."""

    def __init__(self, node: Any, engine: Engine):
        self._node, self._engine = node, engine
        self._sink = Publishers(node, node.live)
        self._timer: Any = None
        self._T_map_odom = None             # where odom is somebody else's
        # stamps and T_map_base of images for which that has not been told yet
        self._unplaced: Deque[Tuple[int, np.ndarray]] = deque(maxlen=_N_UNPLACED)
        self._tiles: Dict[int, int] = {}    # newest revision of each
        self._wanted: tuple = ()
        self._must_refresh, self._first_revision = False, 0
        self._newest_ns = 0
        self._lookup = tf2.make_lookup(node) if node.live.config.tf_mode == 'map_odom' else None

    def start(self) -> None:
        """Begin to send map -> odom."""
        rate_hz = self._node.live.config.tf_rate_hz
        if rate_hz > 0:
            # not the node's clock: a recording may stand still
            self._timer = self._node.create_timer(
                1.0 / rate_hz, self._send_map_odom, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stop(self) -> None:
        """End to send map -> odom."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None

    def close(self) -> None:
        """Take the topics back."""
        self.stop()
        self._sink.close()
        if self._lookup is not None:
            self._lookup.close()

    def finish(self) -> None:
        """Publish the whole path, and let everything be sent."""
        self._sink.finish()

    def write_path(self) -> None:
        """Publish ~/path now."""
        self._sink.write_path()

    def take(self, output: Any) -> None:
        """Publish what the front gave."""
        if isinstance(output, Posed):
            start_s = time.monotonic()
            self._sink.write_state(output.state)
            self._newest_ns = output.state.stamp_ns
            self._follow_odom(output)
            now_s = time.monotonic()
            self._node.status.latency('publish', 1e3 * (now_s - start_s))
            if output.arrived_s is not None:
                self._node.status.latency('total', 1e3 * (now_s - output.arrived_s))
        elif isinstance(output, Mapped):
            self._take_mapped(output)
        elif isinstance(output, Segment):
            self._node.get_logger().warning(output.text or 'begun anew')
            self._tiles.clear()
            if output.is_new_map:
                self._sink.reset()
                self._sink.write_path()
                self._T_map_odom = None
                self._unplaced.clear()
            self._wanted = ()

    def take_message(self, message: Dict[str, Any]) -> None:
        """Publish what the worker sends beside windows."""
        estimator, kind = self._engine.estimator, message['kind']
        if not estimator.has_begun:
            return
        if kind == 'tile':
            revision = self._tiles[message['id']] = self._first_revision + message['revision']
            tile = PointCloud(estimator.to_base_axes(message['points']), message['colors'])
            self._sink.write_tile(message['id'], revision, tile, self._newest_ns)
        elif kind == 'tile_poses':
            frames = {(i, self._tiles[i]): estimator.in_base_axes(T)
                      for i, T in zip(message['ids'].tolist(), message['T_map_tile'])
                      if i in self._tiles}
            self._sink.write_tile_poses(frames, self._newest_ns)
        elif kind == 'cloud':
            cloud = PointCloud(estimator.to_base_axes(message['points']), message['colors'])
            self._sink.write_cloud(cloud, self._newest_ns)
        elif kind == 'grid':
            self._sink.write_grid({**message, 'T_map_origin': estimator.grid_origin(
                message['T_grid_map'], message['origin_m'])}, self._newest_ns)

    def begin(self) -> None:
        """Take note that the worker is new: it is told who listens, and counts tiles anew."""
        self._wanted, self._must_refresh = (), True
        self._first_revision = 1 + max(self._tiles.values(), default=-1)

    def look_for_listeners(self) -> None:
        """Tell the worker what is wanted, when that changes."""
        scale = self._engine.estimator.scale
        cloud, tiles, grid, is_fresh = self._sink.wanted()
        is_fresh, self._must_refresh = is_fresh or self._must_refresh, False
        # a scale that follows its evidence is told anew with every percent
        wanted = cloud, tiles, grid, scale.state, round(100 * np.log(scale.metres_per_unit))
        if wanted == self._wanted and not is_fresh:
            return
        self._wanted = wanted
        self._engine.front.post(self._engine.front.want, {
            'kind': 'want', 'cloud': cloud, 'tiles': tiles, 'fresh': is_fresh,
            'metres_per_unit': scale.metres_per_unit if grid and scale.state == 'metric' else 0.0,
            'up': self._engine.estimator.up.tolist()})

    def _take_mapped(self, mapped: Mapped) -> None:
        if mapped.is_whole_path:
            self._sink.replace_path(mapped.stamps_ns, mapped.T_map_base)
        else:
            self._sink.add_path(mapped.stamps_ns, mapped.T_map_base)

    def _follow_odom(self, posed: Posed) -> None:
        """Place somebody else's odom: where it had the base when this image was taken.

        While the camera is lost, odom stays where it is.
        """
        if self._lookup is None or self._engine.estimator.T_map_odom is None or \
                posed.state.state is FrameState.LOST:
            return
        if len(self._unplaced) == self._unplaced.maxlen:
            config = self._node.live.config
            self._node.get_logger().warning(
                f'no transform {config.odom_frame} -> {config.base_frame} at the time of the '
                'images: node.tf_mode is map_odom, so somebody else has to send it',
                throttle_duration_sec=10.0)
        self._unplaced.append((posed.state.stamp_ns,
                               self._engine.estimator.T_map_odom @ posed.state.T_odom_base))
        self._place_odom()

    def _place_odom(self) -> None:
        """Use the newest image whose transform has come; those may be later than the image."""
        config = self._node.live.config
        for stamp_ns, T_map_base in reversed(self._unplaced):
            T_odom_base = self._lookup.lookup(config.odom_frame, config.base_frame, stamp_ns)
            if T_odom_base is not None:
                self._T_map_odom = T_map_base @ se3.inverse(T_odom_base)
                while self._unplaced and self._unplaced[0][0] <= stamp_ns:
                    self._unplaced.popleft()
                return

    def _send_map_odom(self) -> None:
        config = self._node.live.config
        if self._unplaced:
            self._place_odom()
        T = self._T_map_odom if config.tf_mode == 'map_odom' else self._engine.estimator.T_map_odom
        now_ns = self._node.get_clock().now().nanoseconds
        if T is not None and now_ns > 0:
            self._sink.write_map_odom(now_ns + round(config.tf_tolerance_s * 1e9), T)
