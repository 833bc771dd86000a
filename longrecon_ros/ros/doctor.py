"""Watches a camera's topics and says what is wrong with them and how to mend it.

`Doctor` is fed with each image and with `Facts` about the topics, and needs no node;
`doctor_watch.Watch` gathers the facts of one.
"""

from collections import deque
from itertools import pairwise
import math
from statistics import median
from typing import Deque, Iterator, List, NamedTuple, Optional, Set, Tuple

from rclpy.qos import ReliabilityPolicy

from ..io.calibration import size_text
from .endpoints import names, Offer, unmatched
from .findings import DoctorConfig, Facts, Finding, Level, Size

_N_IMAGES = 100             # that are remembered
_N_ENOUGH = 10              # for a rate, and for a share of lost ones
_N_LAGS = 30                # newest ones, for the age of the stamps
_RATE_RATIO = 0.2           # difference from the expected rate that is told
_BIG_BYTES = 500_000        # best effort loses such images on Fast DDS: rmw_fastrtps#739
_DAY_S = 86400.0            # a stamp so far off is of another clock
_FAST_DDS = 'export FASTRTPS_DEFAULT_PROFILES_FILE=.../config/fastdds.xml of this package for ' \
            'the camera and for this node (the default 512 KB of shared memory lose big images)'


class _Image(NamedTuple):
    steady_s: float
    stamp_ns: int
    lag_ns: int         # node's clock when it came, minus stamp
    n_lost: int         # before it, by its number


class Doctor:
    """Examines one camera; ``topic`` and ``info_topic`` are named in the findings."""

    def __init__(self, topic: str, info_topic: str, config: Optional[DoctorConfig] = None):
        self._topic, self._info_topic = topic, info_topic
        self._config = config or DoctorConfig()
        self._images: Deque[_Image] = deque(maxlen=_N_IMAGES)
        self._seen: List[_Image] = []               # a copy: images come in another thread
        self._size: Optional[Size] = None
        self._n_bytes = 0
        self._matched_s: Optional[float] = None     # since when there is a publisher that matches
        self._first_s: Optional[float] = None       # when the first image came
        self._clock: Tuple[int, float] = (-1, 0.0)  # the node's clock, and when it came there

    def take_image(self, stamp_ns: int, now_ns: int, steady_s: float, *, n_lost: int = 0,
                   n_bytes: int = 0, size: Optional[Size] = None) -> None:
        """Take note of an image; ``n_lost`` before it, by numbers; (width, height) if known."""
        self._images.append(_Image(steady_s, stamp_ns, now_ns - stamp_ns, n_lost))
        self._size, self._n_bytes = size or self._size, n_bytes
        self._first_s = steady_s if self._first_s is None else self._first_s

    def examine(self, facts: Facts) -> List[Finding]:
        """Return what is wrong now, the worst first."""
        self._seen = list(self._images)
        is_matched = any(offer.kind == facts.kind and not unmatched(facts.request, offer)
                         for offer in facts.offers)
        if not is_matched:
            self._matched_s = None
        elif self._matched_s is None:
            self._matched_s = facts.steady_s
        if facts.now_ns != self._clock[0]:
            self._clock = (facts.now_ns, facts.steady_s)
        found = [*self._publishers(facts), *self._arrivals(facts), *self._stamps(facts),
                 *self._calibration(facts), *self._frames(facts)]
        return sorted(found, key=lambda finding: -finding.level)

    def rate_hz(self) -> float:
        """Return the images a second by their stamps, lost ones left out of account; 0 unknown."""
        period_ns = _period_ns(list(self._images))
        return 1e9 / period_ns if period_ns else 0.0

    def _silence_s(self, facts: Facts) -> float:
        """Return for how long nothing came, though there may have been nobody to send."""
        return facts.steady_s - self._seen[-1].steady_s if self._seen else 0.0

    def _is_silent(self, facts: Facts) -> bool:
        return not self._seen or self._silence_s(facts) > self._config.silence_s

    def _publishers(self, facts: Facts) -> Iterator[Finding]:
        if not facts.offers:
            if self._is_silent(facts):
                yield self._no_publisher(facts)
            return
        offers = [offer for offer in facts.offers if offer.kind == facts.kind]
        others = [offer for offer in facts.offers if offer.kind != facts.kind]
        if others:
            yield Finding(Level.WARN if offers else Level.ERROR, 'WRONG_TYPE',
                          f'{names(offer.node for offer in others)} sends {others[0].kind} on '
                          f'{self._topic}, and {facts.kind} is expected',
                          _mend_type(others[0].kind))
        missed = {offer: unmatched(facts.request, offer) for offer in offers}
        refused = [offer for offer in offers if missed[offer]]
        if refused or (facts.n_incompatible and not self._seen):
            policies = {policy for offer in refused for policy in missed[offer]}
            yield self._mismatch(refused, policies, len(refused) in (0, len(offers)))
        if len(offers) > 1:
            yield Finding(Level.WARN, 'TWO_PUBLISHERS',
                          f'{len(offers)} publishers send images on {self._topic}: '
                          f'{names(offer.node for offer in offers)}',
                          'stop all but one, or remap "image" to a topic of one camera')

    def _no_publisher(self, facts: Facts) -> Finding:
        topics = facts.image_topics
        found = f'image topics are: {", ".join(topics)}' if topics else 'no topic has images'
        if f'{self._topic}/compressed' in topics:
            fix = 'set node.image_transport to compressed'
        elif topics:
            fix = f'remap one with -r image:={topics[0].removesuffix("/compressed")}'
        else:
            fix = 'start the camera, and see that it has the same ROS_DOMAIN_ID and ' \
                  'RMW_IMPLEMENTATION'
        # a camera that was there and went away is worse than one that has not come yet
        return Finding(Level.ERROR if self._seen else Level.WARN, 'NO_PUBLISHER',
                       f'nobody publishes {self._topic}; {found}', fix)

    def _mismatch(self, refused: List[Offer], policies: Set[str], is_all: bool) -> Finding:
        who = names(offer.node for offer in refused) or 'a publisher'
        what = ' and '.join(sorted(policies)) or 'quality of service'
        return Finding(Level.ERROR if is_all else Level.WARN, 'QOS_MISMATCH',
                       f'{who} offers less {what} on {self._topic} than is asked for, so nothing '
                       'comes from there',
                       'set node.image_qos to auto or best_effort, or have the publisher offer '
                       'reliable')

    def _arrivals(self, facts: Facts) -> Iterator[Finding]:
        if self._matched_s is not None:
            waited_s = facts.steady_s - self._matched_s
            waited_s = min(waited_s, self._silence_s(facts)) if self._seen else waited_s
            if waited_s > self._config.silence_s:
                yield Finding(Level.ERROR, 'NO_IMAGES', f'{self._topic} has a publisher, but no '
                              f'image arrived for {waited_s:.0f} s',
                              'see with "ros2 topic hz" if the camera sends; if it does, '
                              + _FAST_DDS)
        if self._is_silent(facts):
            return
        n_lost, n_skipped, n = *self._n_missing(), len(self._seen)
        n_missing = max(n_lost, n_skipped)
        if n >= _N_ENOUGH and n_missing > self._config.loss_ratio * (n_missing + n):
            how = 'were lost on the way' if n_lost >= n_skipped else 'are missing, by their stamps'
            yield Finding(Level.WARN, 'LOST_MESSAGES', f'{n_missing} of {n + n_missing} images of '
                          f'{self._topic} {how}', self._mend_losses(facts))
        elif self._is_big_best_effort(facts):
            yield Finding(Level.OK, 'BEST_EFFORT_RAW',
                          f'images of {self._n_bytes * 1e-6:.1f} MB come as best effort, which '
                          'loses them easily', self._mend_losses(facts))
        yield from self._rate()

    def _mend_losses(self, facts: Facts) -> str:
        if self._is_big_best_effort(facts):
            return f'send compressed images, or reliable ones, or {_FAST_DDS}'
        return 'send fewer or smaller images, or compressed ones; look at the load of the ' \
               'machine and the network'

    def _is_big_best_effort(self, facts: Facts) -> bool:
        return self._n_bytes >= _BIG_BYTES and facts.kind.endswith('/Image') and \
            facts.request.reliability != ReliabilityPolicy.RELIABLE

    def _rate(self) -> Iterator[Finding]:
        rate_hz, config = self.rate_hz(), self._config
        if not rate_hz:
            return
        expected_hz = config.expected_rate_hz
        if expected_hz and abs(rate_hz - expected_hz) > _RATE_RATIO * expected_hz:
            yield Finding(Level.WARN, 'WRONG_RATE',
                          f'{self._topic} has {rate_hz:.1f} images a second, not '
                          f'{expected_hz:.1f}',
                          'set the frame rate of the camera (dim light lengthens the exposure), '
                          'or correct the expected rate')
        if rate_hz < config.min_rate_hz:
            yield Finding(Level.WARN, 'SLOW_CAMERA',
                          f'{self._topic} has only {rate_hz:.1f} images a second',
                          f'set the camera to {config.min_rate_hz:.0f} or more, or move slowly')

    def _n_missing(self) -> Tuple[int, int]:
        """Return how many images are missing among those remembered, by numbers and by stamps.

        The camera itself leaves out some; those have no numbers. A long pause is no loss.
        """
        period_ns = _period_ns(self._seen)
        n_skipped = 0
        for a, b in pairwise(self._seen):
            # cameras jitter: a step up to 1.75 periods skips none
            n = math.floor((b.stamp_ns - a.stamp_ns) / period_ns + 0.25) - 1 if period_ns else 0
            n_skipped += n if 0 < n < _N_IMAGES else 0
        return sum(image.n_lost for image in self._seen), n_skipped

    def _stamps(self, facts: Facts) -> Iterator[Finding]:
        yield from self._sim_time(facts)
        images = list(self._seen)[-_N_LAGS:]
        if any(image.stamp_ns <= 0 for image in images):
            yield Finding(Level.ERROR, 'STAMP_ZERO', f'images of {self._topic} have no stamp',
                          'have the driver set header.stamp to the time of capture')
            return
        # without /clock the node's time is 0: SIM_TIME_STOPPED says it
        if len(images) < 3 or (facts.is_sim_time and not facts.now_ns):
            return
        lag_s = median(image.lag_ns for image in images) * 1e-9
        if lag_s < -self._config.ahead_s:
            yield Finding(Level.WARN, 'STAMP_FUTURE', f'images of {self._topic} are stamped '
                          f'{_duration(-lag_s)} ahead of the clock of this node',
                          _mend_clock(lag_s, facts.is_sim_time))
        elif lag_s > self._config.behind_s:
            yield Finding(Level.WARN, 'STAMP_PAST', f'images of {self._topic} are '
                          f'{_duration(lag_s)} old when they arrive',
                          _mend_clock(lag_s, facts.is_sim_time))

    def _sim_time(self, facts: Facts) -> Iterator[Finding]:
        is_stopped = facts.steady_s - self._clock[1] > self._config.silence_s
        # a recording that ended stops both
        is_needed = not (self._is_silent(facts) and self._seen and facts.now_ns)
        if facts.is_sim_time and is_stopped and is_needed:
            what = 'stands still' if facts.now_ns else 'never came'
            yield Finding(Level.WARN, 'SIM_TIME_STOPPED', f'use_sim_time is on, but /clock {what}',
                          'play the recording with "ros2 bag play --clock", start the simulator, '
                          'or set use_sim_time to false on a real robot')

    def _calibration(self, facts: Facts) -> Iterator[Finding]:
        if not self._seen:
            return
        if facts.info_state == 'missing':
            # the first one may still be on its way
            if facts.steady_s - self._first_s > self._config.silence_s:
                yield self._no_info(facts)
        elif facts.info_state == 'bad':
            yield Finding(Level.ERROR, 'BAD_CAMERA_INFO', facts.info_text,
                          'calibrate the camera again, with "ros2 run camera_calibration '
                          'cameracalibrator"')
        elif facts.info_state == 'uncalibrated':
            yield Finding(Level.WARN, 'UNCALIBRATED',
                          f'{self._info_topic} holds no calibration (K is zero): K is estimated',
                          'calibrate the camera with "ros2 run camera_calibration '
                          'cameracalibrator" and give its driver the file (camera_info_url)')
        elif self._size and facts.info_size and self._size != facts.info_size:
            yield Finding(Level.ERROR, 'CAMERA_INFO_SIZE',
                          f'images are {size_text(self._size)} but {self._info_topic} is for '
                          f'{size_text(facts.info_size)}',
                          'give the driver the calibration of this resolution, or remap '
                          '"camera_info" to the one that belongs to the images')

    def _no_info(self, facts: Facts) -> Finding:
        if facts.n_info_publishers:
            return Finding(Level.WARN, 'NO_CAMERA_INFO',
                           f'{self._info_topic} has a publisher, but no message arrived: K is '
                           'estimated',
                           'have it sent with every image, or as transient local and reliable')
        return Finding(Level.WARN, 'NO_CAMERA_INFO',
                       f'nobody publishes {self._info_topic}: K is estimated',
                       'remap "camera_info" to the calibration of this camera, or have the '
                       'driver publish it')

    def _frames(self, facts: Facts) -> Iterator[Finding]:
        if not self._seen or facts.is_mounted is None:
            return
        if not facts.camera_frame:
            yield Finding(Level.ERROR, 'NO_FRAME', f'images of {self._topic} have no frame_id',
                          'have the driver set header.frame_id to the optical frame')
        elif not facts.is_mounted:
            yield Finding(Level.WARN, 'NO_TF',
                          f'TF has no way from {facts.base_frame} to {facts.camera_frame}',
                          'start robot_state_publisher, or "ros2 run tf2_ros '
                          f'static_transform_publisher --frame-id {facts.base_frame} '
                          f'--child-frame-id {facts.camera_frame} --x ... --roll ..."')


def _period_ns(images: List[_Image]) -> float:
    """Return the usual time between stamps; 0 for too few images."""
    steps = [b.stamp_ns - a.stamp_ns for a, b in pairwise(images) if b.stamp_ns > a.stamp_ns]
    return median(steps) if len(steps) >= _N_ENOUGH - 1 else 0.0


def _mend_type(kind: str) -> str:
    if kind.endswith('CompressedImage'):
        return 'set node.image_transport to compressed, and remap "image" to the name without ' \
               '/compressed'
    if kind.endswith('/Image'):
        return 'set node.image_transport to raw'
    return 'remap "image" to a topic with images'


def _mend_clock(lag_s: float, is_sim_time: bool) -> str:
    if abs(lag_s) < _DAY_S:
        return 'synchronise the clocks of the machines (chrony), or have the driver stamp the ' \
               'capture' if lag_s < 0 else \
               'synchronise the clocks of the machines (chrony); shorten queues between the ' \
               'camera and this node'
    if is_sim_time:
        return 'set use_sim_time to false: the images do not carry the time of /clock'
    return 'set use_sim_time to true and play the recording with --clock, or have the driver ' \
           'stamp by the clock of the system'


def _duration(seconds: float) -> str:
    if seconds >= _DAY_S:
        return f'{seconds / _DAY_S:.0f} days'
    return f'{seconds:.1f} s' if seconds >= 1 else f'{seconds * 1e3:.0f} ms'
