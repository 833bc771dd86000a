"""What a node counts and measures of itself, for /diagnostics; plain records, no ROS."""

from collections import Counter, deque
from dataclasses import dataclass, field
import math
from typing import Counter as CounterOf, Deque, Dict, List, Sequence, Tuple

import numpy as np

from ..types import FrameState
from .findings import Finding

STAGES = ('queue', 'decode', 'track', 'infer', 'align', 'publish')
TOTAL = 'total'             # from the stamp of an image to the publication of its pose


class Percentiles:
    """Percentiles of the newest ``n`` values; adding one takes constant time."""

    def __init__(self, n: int = 500):
        if n < 1:
            raise ValueError(f'n: expected at least 1, got {n}')
        self._values = np.zeros(n)
        self._n_added = 0

    def __len__(self) -> int:
        return min(self._n_added, len(self._values))

    @property
    def last(self) -> float:
        """The newest value; NaN when there is none."""
        return float(self._values[(self._n_added - 1) % len(self._values)]) if len(self) else \
            math.nan

    def add(self, value: float) -> None:
        """Take a value; the oldest one in excess goes."""
        self._values[self._n_added % len(self._values)] = value
        self._n_added += 1

    def at(self, *percents: float) -> Tuple[float, ...]:
        """Return the percentiles (0 to 100) asked for; NaN when there is no value."""
        if not len(self):
            return (math.nan,) * len(percents)
        return tuple(np.percentile(self._values[:len(self)], percents).tolist())


class Latency:
    """Milliseconds by stage, of the newest images; stages are `STAGES`, `TOTAL`, or others."""

    def __init__(self, n: int = 500):
        self._n = n
        self._stages: Dict[str, Percentiles] = {name: Percentiles(n) for name in (*STAGES, TOTAL)}

    def add(self, stage: str, duration_ms: float) -> None:
        """Take one measurement; any thread may."""
        if stage not in self._stages:
            self._stages[stage] = Percentiles(self._n)
        self._stages[stage].add(duration_ms)

    def __getitem__(self, stage: str) -> Percentiles:
        return self._stages[stage]

    def stages(self) -> List[str]:
        """Return the names of all stages."""
        return list(self._stages)


class Rate:
    """Events a second over the last ``span_s``; ``n`` events are kept at most."""

    def __init__(self, span_s: float = 5.0, n: int = 1000):
        self._span_s = span_s
        self._times_s: Deque[float] = deque(maxlen=n)

    def add(self, now_s: float) -> None:
        """Take an event at a time of a steady clock."""
        self._times_s.append(now_s)

    def hz(self, now_s: float) -> float:
        """Return the rate by now; 0 for less than two events in the span."""
        times_s = [time_s for time_s in tuple(self._times_s) if now_s - time_s <= self._span_s]
        if len(times_s) < 2:
            return 0.0
        return (len(times_s) - 1) / max(now_s - times_s[0], 1e-9)


@dataclass
class Counts:
    """What has happened to the images since the node was configured."""

    received: int = 0
    lost_before: int = 0        # on the way to the node
    waiting: int = 0            # now
    dropped: int = 0            # for want of time
    skipped: int = 0            # on purpose, by the adaptive stride; they have a pose
    untracked: int = 0          # for want of time; they have no pose
    taken: int = 0              # by the pipeline
    refused: CounterOf[str] = field(default_factory=Counter)    # by reason
    poses: int = 0
    lost: int = 0               # poses that are guesses
    unlinked: int = 0           # windows that could not be aligned
    resets: int = 0
    segments: int = 0
    is_lost: bool = False       # the newest poses are guesses
    problem: str = ''           # the last refusal, and when it was
    problem_s: float = -math.inf

    def refuse(self, reason: str, text: str, now_s: float) -> None:
        """Count an image that was refused; ``now_s`` is a steady clock."""
        self.refused[reason] += 1
        self.problem, self.problem_s = text, now_s

    def add_poses(self, states: Sequence[int]) -> None:
        """Count poses that came together, by their `FrameState`."""
        n_lost = list(states).count(FrameState.LOST)
        self.poses += len(states)
        self.lost += n_lost
        self.is_lost = n_lost > 0


@dataclass
class WorkerHealth:
    """The process with the backbone and the map."""

    state: str = 'starting'     # starting | ready | restarting | failed | stopped
    pid: int = 0
    restarts: int = 0
    fault: str = ''             # why it ended last
    rss_mb: float = 0.0
    gpu_mb: float = 0.0
    beat_age_s: float = 0.0     # since it last gave a sign of life
    beat_limit_s: float = 10.0  # from where on that is told


@dataclass
class MapHealth:
    """The map."""

    submaps: int = 0
    points: int = 0             # that this stream has put in
    closures: int = 0
    tiles: int = 0
    mb: float = 0.0


@dataclass
class ScaleHealth:
    """Metres per unit of odom, and how surely that is known."""

    state: str = 'arbitrary'    # arbitrary | estimated | metric
    metres_per_unit: float = 1.0
    sigma: float = math.inf     # relative
    source: str = 'none'


@dataclass
class Health:
    """All of it; the node fills it in, `diagnostics.Diagnostics` tells it."""

    counts: Counts = field(default_factory=Counts)
    received: Rate = field(default_factory=Rate)
    posed: Rate = field(default_factory=Rate)
    latency: Latency = field(default_factory=Latency)
    budget_ms: float = 0.0      # for `TOTAL`; 0: none
    worker: WorkerHealth = field(default_factory=WorkerHealth)
    map: MapHealth = field(default_factory=MapHealth)
    scale: ScaleHealth = field(default_factory=ScaleHealth)
    findings: List[Finding] = field(default_factory=list)
