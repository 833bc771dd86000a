"""What the doctor of a camera knows and what it finds: the records and their limits."""

from dataclasses import dataclass
from enum import IntEnum
from typing import List, Literal, Optional, Tuple

from .endpoints import Offer, Request

Size = Tuple[int, int]
Code = Literal['QOS_MISMATCH', 'WRONG_TYPE', 'NO_PUBLISHER', 'TWO_PUBLISHERS', 'NO_IMAGES',
               'LOST_MESSAGES', 'BEST_EFFORT_RAW', 'STAMP_ZERO', 'STAMP_FUTURE', 'STAMP_PAST',
               'SIM_TIME_STOPPED', 'SLOW_CAMERA', 'WRONG_RATE', 'NO_CAMERA_INFO',
               'BAD_CAMERA_INFO', 'CAMERA_INFO_SIZE', 'UNCALIBRATED', 'NO_FRAME', 'NO_TF']
InfoState = Literal['missing', 'uncalibrated', 'bad', 'good']


class Level(IntEnum):
    """How bad it is; the numbers are those of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: what and where, and the action that mends it."""

    level: Level
    code: Code
    text: str
    fix: str

    def __str__(self) -> str:
        return f'{self.code}: {self.text}; {self.fix}'


@dataclass(frozen=True, slots=True)
class DoctorConfig:
    """From where on something counts as wrong."""

    silence_s: float = 3.0
    """Without an image for so long, a publisher being there, nothing arrives."""
    loss_ratio: float = 0.05
    """Share of lost images that is told."""
    ahead_s: float = 0.2
    """Stamps may be so far ahead of the clock."""
    behind_s: float = 2.0
    """Images may be so old when they arrive."""
    min_rate_hz: float = 5.0
    """A slower camera has too little overlap when it moves."""
    expected_rate_hz: float = 0.0
    """What the camera should give; 0: not known."""

    def __post_init__(self):
        for name, low, high in (
                ('silence_s', 0.1, 3600.0), ('loss_ratio', 0.0, 1.0), ('ahead_s', 0.0, 3600.0),
                ('behind_s', 0.0, 86400.0), ('min_rate_hz', 0.0, 1000.0),
                ('expected_rate_hz', 0.0, 1000.0)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name}: expected {low} to {high}, got {getattr(self, name)}')


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the topics of a camera at one moment."""

    steady_s: float
    """A clock that nothing sets."""
    now_ns: int
    """The node's clock."""
    offers: Tuple[Offer, ...] = ()
    """Publishers of the image topic."""
    request: Request = Request()
    """What our subscription asks for."""
    kind: str = 'sensor_msgs/msg/Image'
    """The type that we subscribe to."""
    is_sim_time: bool = False
    n_incompatible: int = 0
    """Publishers that the middleware found not to match."""
    n_info_publishers: int = 0
    info_state: InfoState = 'missing'
    info_text: str = ''
    """What is wrong with a bad one."""
    info_size: Optional[Size] = None
    camera_frame: str = ''
    base_frame: str = 'base_link'
    is_mounted: Optional[bool] = None
    """Whether TF knows base <- camera; None: not asked for."""
    image_topics: Tuple[str, ...] = ()
    """Other topics with images."""


def worst(findings: List[Finding]) -> Level:
    """Return the worst level; OK when nothing is wrong."""
    return max((finding.level for finding in findings), default=Level.OK)
