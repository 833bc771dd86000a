"""All that the group ``loop`` of the configuration holds, and the parts that take it."""

from dataclasses import dataclass
from typing import Literal

from .closure import ClosureConfig
from .loops import DriftConfig
from .recognition import RecognitionConfig


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """Parameters of the group ``loop``; ``config/default.yaml`` explains them."""

    use: bool
    use_thread: Literal['auto', 'always', 'never']
    recognize_by: Literal['auto', 'words']
    use_window: bool
    max_waiting: int
    n_features: int
    top_k: int
    min_gap: int
    min_score: float
    min_inliers: int
    min_share: float
    max_drift: float
    n_confirm: int
    drift_translation: float
    drift_depth: float
    drift_rotation_deg: float
    drift_log_scale: float

    def __post_init__(self):
        for name, least in (('max_waiting', 1), ('n_features', 50), ('n_confirm', 1)):
            if getattr(self, name) < least:
                raise ValueError(f'{name}: expected {least} or more, got {getattr(self, name)}')
        if not 0 < self.max_drift <= 1:
            raise ValueError(f'max_drift: expected above 0 and at most 1, got {self.max_drift}')
        for part in (self.recognition, self.closure, self.drift):
            part()                          # they check their own ranges

    def recognition(self) -> RecognitionConfig:
        """Return the parameters of the search."""
        return RecognitionConfig(top_k=self.top_k, min_gap=self.min_gap,
                                 min_score=self.min_score)

    def closure(self) -> ClosureConfig:
        """Return the parameters of the verification."""
        return ClosureConfig(min_inliers=self.min_inliers, min_share=self.min_share)

    def drift(self) -> DriftConfig:
        """Return the errors that are expected from submap to submap."""
        return DriftConfig(self.drift_translation, self.drift_depth, self.drift_rotation_deg,
                           self.drift_log_scale)
