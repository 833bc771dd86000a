"""The thread beside the executor's through which every image goes: decoded, judged, tracked.

Images come from the executor, answers of the worker from the supervisor's thread; what comes out
is for the executor to publish. Only this thread feeds the worker, so that it gets images and calls
in one order.
"""

from collections import deque
from dataclasses import dataclass
import threading
import time
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

import numpy as np

from ..errors import InputError
from ..io.calibration import Calibration
from ..io.image_message import image_name
from ..worker.messages import calibration_message, read_step
from ..worker.stream import Stream
from ..worker.supervisor import Supervisor
from .estimator import Estimator
from .intake import Decision, Intake, IntakeConfig
from .odometry import BaseState

_BEHIND = 3         # images that wait: those before the newest are not tracked

Decoder = Callable[[Any, str], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class ImageJob:
    """An image on its way in."""

    message: Any                            # sensor_msgs Image or CompressedImage
    stamp_ns: int
    calibration: Optional[Calibration]
    T_base_camera: np.ndarray               # (4, 4) f64, m
    topic: str
    now_ns: int                             # the node's clock when it came
    arrived_s: float                        # time.monotonic


@dataclass(frozen=True, slots=True, eq=False)
class Posed:
    """An image that has its state; ``arrived_s`` is None for one that came long ago."""

    state: BaseState
    arrived_s: Optional[float]


@dataclass(frozen=True, slots=True)
class Refused:
    """An image that did not get in."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A new stream has begun."""

    text: str
    is_new_map: bool


class Front:
    """Runs until `close`; see the module. ``notify`` is called when there are `outputs`.

    ``latency`` gets milliseconds by stage.
    """

    def __init__(self, stream: Stream, supervisor_of: Callable[[], Supervisor], decode: Decoder,
                 estimator: Estimator, gap_s: float, capacity: int, policy: str,
                 notify: Callable[[], None], latency: Callable[[str, float], None]):
        self._stream, self._supervisor_of, self._decode = stream, supervisor_of, decode
        self.estimator, self._gap_s = estimator, gap_s
        self._capacity, self._policy = capacity, policy
        self._notify, self._latency = notify, latency
        self._images: Deque[ImageJob] = deque()
        self._jobs: Deque[Tuple[Callable, tuple]] = deque()
        self._outputs: Deque[Any] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._given_up = ''                 # why there will be no worker any more
        self.n_dropped = 0                  # images that this thread had no time for
        self.n_untracked = 0                # that it had no time to track: they have no pose
        self.failure: Optional[BaseException] = None
        self._missed = ''                   # call that a worker which is not there has to get
        self._epoch = 0
        self._generation = 0                # of the worker that is being fed; 0: none
        self._intake: Optional[Intake] = None
        self._begun: Optional[Tuple[Optional[Calibration], str]] = None
        self._thread = threading.Thread(target=self._run, name='front', daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Images that wait for this thread."""
        return len(self._images)

    def offer(self, job: ImageJob) -> None:
        """Queue an image. A full queue drops its oldest one, or with keep_all has the caller wait.

        With keep_all it must not be the thread that brings the worker's answers.
        """
        with self._changed:
            if self._policy == 'keep_all':
                self._changed.wait_for(lambda: len(self._images) < self._capacity
                                       or self._is_closing or self._given_up)
            if len(self._images) >= self._capacity:
                self._images.popleft()
                self.n_dropped += 1
            self._images.append(job)
            self._changed.notify_all()

    def post(self, job: Callable, *arguments: Any) -> None:
        """Have a method called by the thread, before the images that wait."""
        with self._changed:
            self._jobs.append((job, arguments))
            self._changed.notify_all()

    def clear_images(self) -> None:
        """Drop the images that wait."""
        with self._changed:
            self.n_dropped += len(self._images)
            self._images.clear()
            self._changed.notify_all()

    def outputs(self) -> List[Any]:
        """Return what has come out since the last call."""
        found = []
        while self._outputs:
            found.append(self._outputs.popleft())
        return found

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    # jobs, in the thread --------------------------------------------------------------------

    def call(self, ticket: int, method: str, *arguments: Any) -> None:
        """Have the worker do something in its turn."""
        if method == 'flush':
            self._stream.flushed()
        message = {'kind': 'call', 'ticket': ticket, 'method': method,
                   'arguments': list(arguments)}
        if not self._send(message):
            self.put({'kind': 'answer', 'ticket': ticket, 'is_done': False, 'text': (
                self._given_up or 'the worker is being started: try again in a few seconds')})

    def reset(self, ticket: int, method: str, *arguments: Any) -> None:
        """Begin anew, here and in the worker, by a call of its that forgets the stream.

        Without a worker nothing is forgotten: the answer is that it failed.
        """
        if self._generation:
            self.clear_images()
            self._begin_anew('', is_new_map=True)
        self.call(ticket, method, *arguments)

    def up(self, generation: int, size: int, overlap: int) -> None:
        """Feed a worker that is ready: what it has to know, and all images without an answer."""
        self._generation = generation
        tail = self.estimator.tail
        n_seen = 0 if tail is None else len(tail['prediction.frame_ids'])
        messages = self._stream.again(size, overlap, n_seen)
        if self._missed:
            self._send({'kind': 'call', 'ticket': 0, 'arguments': [], 'method': self._missed})
            self._missed = ''
        if self._begun is not None:
            self._send(self._begin_message())
        for message in messages:
            self._send(message)

    def down(self) -> None:
        """Feed no worker until there is one."""
        self._generation = 0

    def give_up(self, reason: str) -> None:
        """Feed no worker any more: no image waits for one, even with keep_all."""
        with self._changed:
            self._generation, self._given_up = 0, reason
            self._changed.notify_all()

    def want(self, message: Dict[str, Any]) -> None:
        """Tell the worker who listens."""
        self._send(message)

    def step(self, message: Dict[str, Any]) -> None:
        """Take what a window gave."""
        if message['epoch'] != self._epoch or not self.estimator.has_begun:
            return
        start_s, step = time.monotonic(), read_step(message)
        self._stream.answered(int(step.frame_ids[-1]), step.window_s)
        states, mapped = self.estimator.step(step)
        for state in states:
            self.put(Posed(state, None))
        self.put(mapped)
        self._latency('window', 1e3 * (time.monotonic() - start_s))

    def lost(self, message: Dict[str, Any]) -> None:
        """Wait no more for the windows up to a frame: the map could not take one of them."""
        if message['epoch'] == self._epoch:
            self._stream.answered(message['index'], self._stream.window_s)
        self.put(Refused('map', message['text']))

    def wheel(self, stamp_ns: int, T_wheelodom_base: np.ndarray) -> None:
        """Take the odometry of the wheels."""
        self.estimator.add_wheel(stamp_ns, T_wheelodom_base)

    def depth(self, stamp_ns: int, depth_m: np.ndarray) -> None:
        """Take a depth image."""
        self.estimator.add_depth(stamp_ns, depth_m)

    # the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                job = self._next()
                if job is None:
                    return
                if isinstance(job, ImageJob):
                    self._image(job)
                else:
                    job[0](*job[1])
        except BaseException as error:
            self.failure = error
            self._notify()
            raise

    def _next(self) -> Any:
        with self._changed:
            self._changed.wait_for(self._has_work)
            if self._is_closing:
                return None
            if self._jobs:
                return self._jobs.popleft()
            job = self._images.popleft()
            self._changed.notify_all()
            return job

    def _has_work(self) -> bool:
        if self._is_closing or self._jobs:
            return True
        # with keep_all an image waits here for its place in the ring
        return bool(self._images) and (self._policy != 'keep_all' or self._given_up
                                       or self._stream.has_room)

    def put(self, output: Any) -> None:
        """Give an output its turn among all others."""
        self._outputs.append(output)
        self._notify()

    def _send(self, message: Dict[str, Any]) -> bool:
        return bool(self._generation) and self._supervisor_of().send(message, self._generation)

    def _image(self, job: ImageJob) -> None:
        start_s = time.monotonic()
        self._latency('queue', 1e3 * (start_s - job.arrived_s))
        name = image_name(job.message, job.topic)
        try:
            image = self._decode(job.message, name)
        except InputError as error:
            self.put(Refused('unreadable', str(error)))
            return
        decoded_s = time.monotonic()
        self._latency('decode', 1e3 * (decoded_s - start_s))
        if not self._is_let_in(job, image):
            return
        try:
            message = self._stream.offer(job.stamp_ns, image, name)
        except ValueError as error:
            self.put(Refused('too large', f'{name}: {error}; have the driver send smaller ones'))
            return
        if message is not None:
            self._send(message)
        if self._policy == 'latest' and len(self._images) >= _BEHIND:
            self.n_untracked += 1           # a pose that is late helps less than the next in time
        else:
            self._track(job, image)

    def _is_let_in(self, job: ImageJob, image: np.ndarray) -> bool:
        if self._intake is None:
            self._intake = Intake(job.topic, IntakeConfig(gap_s=self._gap_s))
        size = image.shape[1], image.shape[0]
        verdict = self._intake.accept(job.stamp_ns, size, job.calibration, job.now_ns)
        if not verdict.is_accepted:
            self.put(Refused(verdict.reason, verdict.text))
            return False
        if verdict.decision is Decision.NEW_SEGMENT:
            is_new_map = verdict.reason == 'stamps jumped back'
            intake = self._intake
            self._begin_anew(verdict.text, is_new_map)
            self._intake = intake
            method = 'reset' if is_new_map else 'segment'
            if not self._send({'kind': 'call', 'ticket': 0, 'arguments': [], 'method': method}):
                self._missed = method
        elif verdict.decision is Decision.GAP:
            self.put(Refused('', verdict.text))
        if self._begun is None:
            self._begin(job)
        return True

    def _begin(self, job: ImageJob) -> None:
        self._begun = job.calibration, job.topic
        self.estimator.begin(job.calibration, job.T_base_camera)
        self._send(self._begin_message())

    def _begin_message(self) -> Dict[str, Any]:
        calibration, topic = self._begun
        return {'kind': 'begin', 'calibration': calibration_message(calibration),
                'topic': topic, 'epoch': self._epoch}

    def _begin_anew(self, text: str, is_new_map: bool) -> None:
        """Forget the stream; odom goes on where it is unless the map is new, too."""
        self._epoch += 1
        self._intake = self._begun = None
        self._stream.reset()
        self.estimator.begin_anew(is_new_map)
        self.put(Segment(text, is_new_map))

    def _track(self, job: ImageJob, image: np.ndarray) -> None:
        start_s = time.monotonic()
        state = self.estimator.track(job.stamp_ns, image)
        self._latency('track', 1e3 * (time.monotonic() - start_s))
        if state is not None:
            self.put(Posed(state, job.arrived_s))
