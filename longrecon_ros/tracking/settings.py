"""The parameters of the tracker."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrackingConfig:
    """How points are chosen, followed and judged; lengths in px of the working image.

    Raises ValueError for values out of range.
    """

    use: bool = True
    """False: nobody tracks; read by those who would."""
    n_points: int = 250
    """Points that are followed at a time, at most."""
    width_px: int = 640
    """Wider images are worked on at this width."""
    n_history: int = 96
    """Images that are kept for a reference to come; a later one is of no use."""
    n_catch_up: int = 96
    """Steps of flow from a reference's image to the newest one where no older one helps."""
    min_confidence: float = 0.3
    """Pixels of the pointmap below are not used."""
    patch_px: int = 13
    """Side of the patch whose motion is measured, odd."""
    levels: int = 2
    """Pyramid levels above full resolution; two more where nothing predicts the motion."""
    round_trip_px: float = 0.5
    """Where nothing predicts the motion, a point must come home to within this."""
    sigma_px: float = 0.3
    """Expected deviation of a point's position; the residuals correct it."""
    sigma_log_depth: float = 0.02
    """Expected relative deviation of the depth of each point."""
    sigma_log_scale: float = 0.01
    """Expected relative deviation that all depths of a reference share."""
    sigma_acceleration: float = 1.0
    """Expected deviation of the camera's acceleration from none, median depths per s^2."""
    min_inliers: int = 20
    min_share: float = 0.4
    """Of the points found, so many must agree with the pose."""
    max_rmse_px: float = 2.0
    max_step: float = 0.25
    """Way from image to image, as a share of the median depth; more is not believed."""
    max_turn_deg: float = 15.0
    """Turn from image to image; more is not believed."""

    def __post_init__(self):
        for name, low, high in (
                ('n_points', 30, 5000), ('width_px', 64, 4096), ('n_history', 2, 1000),
                ('n_catch_up', 1, 100), ('min_confidence', 0, 1), ('patch_px', 5, 63),
                ('levels', 0, 6), ('min_inliers', 8, 1000), ('min_share', 0, 1),
                ('sigma_log_depth', 0, 1), ('sigma_log_scale', 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name}: expected {low} to {high}, got {getattr(self, name)}')
        for name, high in (('round_trip_px', 10), ('sigma_px', 10), ('max_rmse_px', 100),
                           ('max_step', 10), ('sigma_acceleration', 1000), ('max_turn_deg', 180)):
            if not 0 < getattr(self, name) <= high:
                raise ValueError(f'{name}: expected above 0 and at most {high}, got '
                                 f'{getattr(self, name)}')
        if self.patch_px % 2 == 0:
            raise ValueError(f'patch_px: expected an odd number, got {self.patch_px}')
        if self.min_inliers > self.n_points:
            raise ValueError(f'min_inliers: expected at most n_points, {self.n_points}, got '
                             f'{self.min_inliers}')
