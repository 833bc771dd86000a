"""How many metres one unit of odom is: estimated from what else a robot knows, and how surely.

One camera does not know metres. `Scale` is the front: it takes wheel odometry, depth images and
aligned windows, and says what it made of them. `MetricMotion` makes metric poses of it that do not
jump when the estimate changes.
"""

from .metric_motion import MetricMotion
from .records import ScaleEstimate, WindowEvidence
from .scale import Scale
from .settings import ScaleConfig

__all__ = ['MetricMotion', 'Scale', 'ScaleConfig', 'ScaleEstimate', 'WindowEvidence']
