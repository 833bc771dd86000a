"""The focal length of a camera nobody calibrated, from the first windows that move.

The principal point is taken as the centre and pixels as square. A window is solved under several
focal lengths, each refined by bundle adjustment; the one that explains most observations wins.
Later windows go on refining it. A camera that only drives straight ahead does not show its focal
length; then it stays near the most common one, and the belief stays as vague as it is.
"""

from typing import Optional, Sequence, Tuple

import numpy as np

from .motion import has_parallax
from .session import Session
from .window import Problem, Solution, solve, SolverConfig

USUAL_FOCAL = 1.05
"""Focal length over the square root of the image's area that is tried first. The area holds for
wide strips, too, which are cut out of images of the usual shape."""
SIGMA = 0.25
"""Standard deviation of the logarithm of the focal length around it."""
_STARTS = (1.0, 0.75, 1.35, 0.55)
_TRIALS = (1.0, 0.85, 1.15, 0.7, 1.35, 0.55)
_SURE = 1e3
_MARGIN = 0.005
"""Gain in explained observations for which a belief is given up."""
_MAX_WINDOWS = 3


def usual_K(size: Tuple[int, int]) -> np.ndarray:
    """Intrinsics (3, 3) px of a usual camera with an image of size (width, height)."""
    w, h = size
    f = USUAL_FOCAL * np.sqrt(w * h)
    return np.array([[f, 0, (w - 1) / 2], [0, f, (h - 1) / 2], [0, 0, 1]])


def is_wanted(session: Session) -> bool:
    """Tell whether the focal length is still to be searched for."""
    return (not session.is_calibrated and session.focal_information < _SURE
            and session.n_searches < _MAX_WINDOWS)


def moves(session: Session, xy: np.ndarray, seen: np.ndarray, enough_px: float) -> bool:
    """Tell whether a window has parallax, as `motion.has_parallax` does.

    Under a wrong focal length a mere turn leaves residuals like a motion; so while the focal
    length is searched for, no trial may explain the window as a turn.
    """
    focal_px = session.focal_px()
    factors = _TRIALS if is_wanted(session) else (1.0,)
    return all(has_parallax(xy / f, seen, focal_px * f, enough_px) for f in factors)


def search(session: Session, frame_ids: Sequence[int], config: SolverConfig) -> Optional[Solution]:
    """Solve a window under several focal lengths and leave the session with the best one."""
    session.n_searches += 1
    believed, best, best_focal = session.log_focal, None, session.log_focal
    for factor in _STARTS:
        session.log_focal = believed + float(np.log(factor))
        _, xy, seen = session.grid(frame_ids)
        prior = session.focal_prior(off=float(np.log(factor)))
        solution = solve(Problem(xy, seen, session.focal_px(), session.size[0], prior), config)
        if solution is None:
            continue
        if best is None or solution.fit_share > best.fit_share + _MARGIN:
            best, best_focal = solution, session.log_focal
    session.log_focal = best_focal
    return best
