"""A pose for every image, at camera rate: flow from the last aligned pointmap, then the pose.

`tracker.Tracker` tells the story. It measures or says LOST; it never extrapolates.
"""

from .records import Camera, Reference, TrackedPose
from .settings import TrackingConfig
from .tracker import Tracker

__all__ = ['Camera', 'Reference', 'TrackedPose', 'Tracker', 'TrackingConfig']
