"""The gate before the pipeline: which images of a stream go on, and when a new map begins."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal, Optional, Tuple

import numpy as np

from ..io.calibration import Calibration, size_text

_K_RATIO = 1e-3         # of the focal length: what K may differ by and still be the same
_DISTORTION_TOLERANCE = 1e-6

Size = Tuple[int, int]
Reason = Literal['', 'stamp zero', 'stamp repeated', 'stamp out of order', 'stamps jumped back',
                 'stamps jumped ahead', 'size changed', 'calibration changed',
                 'calibration of another size', 'gap']


class Decision(Enum):
    """What happens to an image."""

    OK = 'ok'
    GAP = 'gap'                     # goes on; images are missing before it
    NEW_SEGMENT = 'new segment'     # goes on as the first one of a new map
    REFUSE = 'refuse'


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on one image; ``text`` says what is wrong, where and what to do."""

    decision: Decision
    reason: Reason = ''
    text: str = ''

    @property
    def is_accepted(self) -> bool:
        """Whether the image goes on."""
        return self.decision is not Decision.REFUSE


@dataclass(frozen=True, slots=True)
class IntakeConfig:
    """What counts as a gap, a restart and a change."""

    gap_s: float = 2.0
    """A longer time between two stamps is a gap."""
    restart_s: float = 1.0
    """Stamps that go back by more mean that a recording began again, by less a mix-up."""
    n_confirm: int = 3
    """Consecutive images that must agree on a change before it counts."""

    def __post_init__(self):
        for name, low, high in (('gap_s', 0.01, 3600.0), ('restart_s', 0.0, 3600.0),
                                ('n_confirm', 1, 1000)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name}: expected {low} to {high}, got {getattr(self, name)}')


@dataclass(slots=True, eq=False)
class _Stream:
    """Images that belong together, up to the newest one."""

    size: Size
    calibration: Optional[Calibration]
    stamp_ns: int
    now_ns: int
    n_images: int = 1

    def add(self, stamp_ns: int, now_ns: int) -> None:
        self.stamp_ns, self.now_ns, self.n_images = stamp_ns, now_ns, self.n_images + 1


@dataclass(frozen=True, slots=True)
class _Change:
    """How an image differs from the stream; a break of the stamps alone keeps the map."""

    reason: Reason
    text: str
    decision: Decision = Decision.NEW_SEGMENT


class Intake:
    """Decides on the images of one stream, in the order in which they came.

    An image without a stamp, with one that was there already, or that does not fit its calibration
    is refused. When size or calibration change, or the stamps jump, the images are refused until
    ``n_confirm`` in a row agree on the change; then a new segment begins (after a jump ahead just
    a gap). So one wrong stamp, or two cameras on one topic, do not cost the map. The encoding may
    change at any time.
    """

    def __init__(self, topic: str, config: IntakeConfig = IntakeConfig()):
        self._topic, self._config = topic, config
        self._gap_ns = round(config.gap_s * 1e9)
        self._restart_ns = round(config.restart_s * 1e9)
        self.reset()

    def reset(self) -> None:
        """Forget the stream: the next image is the first one."""
        self._stream: Optional[_Stream] = None
        self._candidate: Optional[_Stream] = None

    def accept(self, stamp_ns: int, size: Size, calibration: Optional[Calibration],
               now_ns: int) -> Verdict:
        """Decide on one image.

        ``size`` is (width, height), px; ``calibration`` is what is known of the camera by now,
        None for nothing (known once, it stays); ``now_ns`` is the node's clock.
        """
        if stamp_ns <= 0:
            return self._refuse('stamp zero', 'the image has no stamp; have the driver set '
                                'header.stamp to the time of capture')
        if calibration is not None and calibration.size not in (None, size):
            return self._refuse('calibration of another size', (
                f'the image is {size_text(size)}, but its camera_info is for '
                f'{size_text(calibration.size)}; publish the calibration of this resolution'))
        stream = self._stream
        if stream is None:
            self._stream = _Stream(size, calibration, stamp_ns, now_ns)
            return Verdict(Decision.OK)
        if calibration is None and size == stream.size:
            calibration = stream.calibration
        change = self._kind_change(stream, size, calibration)
        if change is None:
            step_ns = stamp_ns - stream.stamp_ns
            if -self._restart_ns <= step_ns <= 0:
                return self._refuse_order(step_ns)
            change = self._jump(step_ns, now_ns - stream.now_ns)
        if change is not None:
            return self._consider(change, _Stream(size, calibration, stamp_ns, now_ns))
        self._candidate = None
        stream.add(stamp_ns, now_ns)
        if step_ns > self._gap_ns:
            return Verdict(Decision.GAP, 'gap', f'{self._topic}: no image for '
                           f'{step_ns * 1e-9:.1f} s; look at the camera and its link')
        return Verdict(Decision.OK)

    def _kind_change(self, stream: _Stream, size: Size,
                     calibration: Optional[Calibration]) -> Optional[_Change]:
        if size != stream.size:
            return _Change('size changed',
                           f'the images changed from {size_text(stream.size)} to '
                           f'{size_text(size)}')
        if not is_same_calibration(stream.calibration, calibration):
            return _Change('calibration changed', 'the calibration of the camera changed: '
                           f'{_difference(stream.calibration, calibration)}')
        return None

    def _jump(self, step_ns: int, passed_ns: int) -> Optional[_Change]:
        """Return what a step of the stamps means; ``passed_ns`` is what the clock advanced."""
        if step_ns < 0:
            return _Change('stamps jumped back', f'the stamps went back by {-step_ns * 1e-9:.1f} s'
                           ': the recording began again')
        if step_ns > self._gap_ns and step_ns - passed_ns > self._gap_ns:
            return _Change('stamps jumped ahead', f'the stamps jumped ahead by '
                           f'{step_ns * 1e-9:.1f} s', Decision.GAP)
        return None

    def _consider(self, change: _Change, image: _Stream) -> Verdict:
        """Refuse an image of another kind until enough in a row agree; then go on with them."""
        candidate = self._candidate
        if candidate is not None and _belongs(image, candidate):
            candidate.add(image.stamp_ns, image.now_ns)
        else:
            candidate = self._candidate = image
        if candidate.n_images < self._config.n_confirm:
            return self._refuse(change.reason, f'{change.text}; the image waits for '
                                f'{self._config.n_confirm} in a row that agree. If this repeats, '
                                'see that one camera only publishes here')
        self._stream, self._candidate = candidate, None
        end = '' if change.decision is not Decision.NEW_SEGMENT else (
            '; a new map begins' if change.reason == 'stamps jumped back' else
            '; a new segment of the map begins')
        return Verdict(change.decision, change.reason, f'{self._topic}: {change.text}{end}')

    def _refuse_order(self, step_ns: int) -> Verdict:
        if step_ns == 0:
            return self._refuse('stamp repeated', 'the image has the stamp of the one before it; '
                                'give every image its time of capture')
        return self._refuse('stamp out of order', f'the image is {-step_ns * 1e-6:.1f} ms older '
                            'than the one before it; give every image its time of capture and '
                            'send them in order')

    def _refuse(self, reason: Reason, text: str) -> Verdict:
        return Verdict(Decision.REFUSE, reason, f'{self._topic}: {text}')


def is_same_calibration(a: Optional[Calibration], b: Optional[Calibration]) -> bool:
    """Say if two calibrations are of the same camera, as far as geometry can tell.

    Every entry of K within 0.1 % of the focal length, and the same distortion; coefficients of
    zero at the end do not count.
    """
    if a is b or a is None or b is None:
        return a is b
    if np.abs(a.K - b.K).max() > _K_RATIO * a.K[0, 0]:
        return False
    if (a.distortion is None) != (b.distortion is None):
        return False
    if a.distortion is None:
        return True
    n = max(len(a.distortion), len(b.distortion))
    first, second = (np.pad(c.distortion, (0, n - len(c.distortion))) for c in (a, b))
    return (a.distortion_model == b.distortion_model
            and bool(np.abs(first - second).max() <= _DISTORTION_TOLERANCE))


def _difference(a: Optional[Calibration], b: Optional[Calibration]) -> str:
    if a is None:
        return f'fx is {b.K[0, 0]:.1f} px, and none was known before'
    if np.abs(a.K - b.K).max() <= _K_RATIO * a.K[0, 0]:
        return 'another distortion'
    return ', '.join(f'{name} {a.K[at]:.1f} to {b.K[at]:.1f} px' for name, at in
                     (('fx', (0, 0)), ('fy', (1, 1)), ('cx', (0, 2)), ('cy', (1, 2))))


def _belongs(image: _Stream, candidate: _Stream) -> bool:
    return (image.size == candidate.size and image.stamp_ns > candidate.stamp_ns
            and is_same_calibration(image.calibration, candidate.calibration))
