"""Persistent point tracks: corners followed from frame to frame, with ids that never repeat.

Corners after Shi and Tomasi (CVPR 1994), flow after Lucas and Kanade (IJCAI 1981) in pyramids
(Bouguet 2000), checked there and back and against one epipolar geometry a frame pair.
"""

from dataclasses import dataclass
import logging
from typing import Tuple

import cv2
import numpy as np

log = logging.getLogger(__name__)


_HARD_SURVIVAL, _VERY_HARD_SURVIVAL = 0.55, 0.4
"""Shares of points found below which more is tried."""
_DOUBTFUL_SURVIVAL = 0.6
"""Where fewer points than this share come home, those that do must look alike, too."""
_ALIKE = 0.5
_MIN_MODEL_POINTS = 15
_BROKEN_SURVIVAL = 0.1
_MAX_SKIPPED = 5
_BLANK_CONTRAST = 4.0
"""Standard deviation of the grey levels of an image that shows nothing."""
_SAME_MEAN = 3.0
"""Grey levels by which the mean of two images may differ before they are matched."""
_NO_IDS = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """How points are found and followed; lengths in px of the tracked image."""

    n_tracks: int = 400
    quality: float = 0.0007
    """Weakest corner kept, relative to the strongest (low: dim indoor scenes starve otherwise)."""
    patch_px: int = 19
    """Side of the patch that captures the motion, odd."""
    final_patch_px: int = 9
    """Side of the patch of a last step at full resolution, odd; 0: none. A small patch lags less
    behind points that come nearer, which is what biases the scale of a forward drive."""
    levels: int = 4
    """Pyramid levels above full resolution."""
    round_trip_px: float = 0.7
    epipolar_px: float = 1.0
    refill_share: float = 0.85
    """New corners are looked for when fewer than this share of ``n_tracks`` is alive."""


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """What the tracker sees in one frame."""

    ids: np.ndarray                 # (n,) i64, ascending
    uv: np.ndarray                  # (n, 2) f32 px
    survival: float                 # share of the last frame's points that were found again
    flow_px: float                  # median motion since the last frame, px; nan when unknown


class Tracker:
    """Follows points through a stream of grey images. One instance a stream; not thread safe."""

    def __init__(self, config: TrackerConfig):
        self._config = config
        self._gray = None
        self._ids = _NO_IDS
        self._uv = np.zeros((0, 2), np.float32)
        self._flow = np.zeros((0, 2), np.float32)
        self._next_id = 0
        self._n_skipped = 0

    def push(self, gray: np.ndarray) -> Observations:
        """Follow all points into ``gray`` (H, W) uint8 and top them up with new corners.

        An image that shows nothing (black, blank) is skipped: points are followed across it from
        the last image that showed something, for a few frames.
        """
        survival, flow_px = 1.0, float('nan')
        if self._gray is not None and len(self._ids):
            keep, uv = self._follow(gray)
            survival = float(keep.mean())
            if survival < _BROKEN_SURVIVAL and self._n_skipped < _MAX_SKIPPED and _is_blank(gray):
                self._n_skipped += 1
                return Observations(_NO_IDS, np.zeros((0, 2), np.float32), survival, flow_px)
            flow = uv[keep] - self._uv[keep]
            flow_px = float(np.median(np.linalg.norm(flow, axis=1))) if keep.any() else flow_px
            self._ids, self._uv, self._flow = self._ids[keep], uv[keep], flow
        self._gray, self._n_skipped = gray, 0
        if len(self._ids) < self._config.refill_share * self._config.n_tracks:
            self._refill(gray)
        return Observations(self._ids.copy(), self._uv.copy(), survival, flow_px)

    def _follow(self, gray: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Follow all points: who was found (n,) and where (n, 2); hard frames get more tries."""
        everyone = np.arange(len(self._uv))
        keep, uv = self._klt(self._gray, gray, everyone, self._uv + self._flow)

        def try_again(image, start):
            lost = np.flatnonzero(~keep)
            keep[lost], uv[lost] = self._klt(image, gray, lost, start[lost])
        if keep.mean() < _HARD_SURVIVAL:
            try_again(self._gray, self._uv)
        if keep.mean() < _HARD_SURVIVAL:
            as_bright = _as_bright(self._gray, gray)
            if as_bright is not self._gray:
                try_again(as_bright, self._uv)
        if keep.mean() < _VERY_HARD_SURVIVAL:
            start = _homography_guess(self._gray, gray, self._uv)
            if start is not None:
                try_again(self._gray, start)
        if keep.any() and keep.mean() < _DOUBTFUL_SURVIVAL:
            found = np.flatnonzero(keep)
            keep[found[~_alike(self._gray, self._uv[found], gray, uv[found])]] = False
        found = np.flatnonzero(keep)
        fits = _epipolar_inliers(self._uv[found], uv[found], self._config.epipolar_px)
        keep[found[~fits]] = False
        return keep, uv

    def _klt(self, before: np.ndarray, gray: np.ndarray, which: np.ndarray, start: np.ndarray
             ) -> Tuple[np.ndarray, np.ndarray]:
        """Follow some points there and back: who came home (n,) and where they are (n, 2)."""
        cfg = self._config
        points = self._uv[which]
        h, w = gray.shape
        coarse = dict(winSize=(cfg.patch_px, cfg.patch_px), maxLevel=cfg.levels,
                      criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 15, 0.02),
                      flags=cv2.OPTFLOW_USE_INITIAL_FLOW, minEigThreshold=1e-4)
        fine = dict(coarse, winSize=(cfg.final_patch_px, cfg.final_patch_px), maxLevel=0)
        uv, ok, _ = cv2.calcOpticalFlowPyrLK(before, gray, points,
                                             start.astype(np.float32), **coarse)
        if cfg.final_patch_px:
            uv, ok_fine, _ = cv2.calcOpticalFlowPyrLK(before, gray, points, uv, **fine)
            ok &= ok_fine
        back = fine if cfg.final_patch_px else coarse
        home, ok_back, _ = cv2.calcOpticalFlowPyrLK(gray, before, uv, points.copy(), **back)
        error = np.linalg.norm(home - points, axis=1)
        inside = ((uv >= 4) & (uv < (w - 4, h - 4))).all(axis=1)
        return (ok[:, 0] > 0) & (ok_back[:, 0] > 0) & (error < cfg.round_trip_px) & inside, uv

    def _refill(self, gray: np.ndarray) -> None:
        """Top up with corners away from live points."""
        cfg = self._config
        h, w = gray.shape
        radius = 0.75 * np.sqrt(h * w / cfg.n_tracks)
        fresh = cv2.goodFeaturesToTrack(gray, cfg.n_tracks - len(self._ids), cfg.quality, radius,
                                        mask=_away_from(gray.shape, self._uv, radius), blockSize=5)
        if fresh is None:
            return
        fresh = fresh.reshape(-1, 2).astype(np.float32)
        ids = np.arange(self._next_id, self._next_id + len(fresh))
        self._next_id += len(fresh)
        self._flow = np.concatenate([self._flow, _nearby_flow(self._uv, self._flow, fresh)])
        self._ids = np.concatenate([self._ids, ids])
        self._uv = np.concatenate([self._uv, fresh])


def _is_blank(gray: np.ndarray) -> bool:
    return float(cv2.meanStdDev(gray)[1][0, 0]) < _BLANK_CONTRAST


def _as_bright(gray: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The image with brightness and contrast of another: flow takes brightness for constant."""
    (mean, std), (mean_like, std_like) = (
        (float(m[0, 0]), float(s[0, 0])) for m, s in map(cv2.meanStdDev, (gray, like)))
    if abs(mean - mean_like) < _SAME_MEAN or std < _BLANK_CONTRAST or std_like < _BLANK_CONTRAST:
        return gray
    gain = float(np.clip(std_like / std, 0.5, 2.0))
    table = np.clip(mean_like + gain * (np.arange(256) - mean), 0, 255)
    return cv2.LUT(gray, table.astype(np.uint8))


def _away_from(shape, uv: np.ndarray, radius: float) -> np.ndarray:
    """Mask (h, w) uint8 of pixels inside the border and further than ``radius`` from points."""
    mask = np.full(shape, 255, np.uint8)
    mask[:4], mask[-4:], mask[:, :4], mask[:, -4:] = 0, 0, 0, 0
    for x, y in np.rint(uv).astype(int).tolist():
        cv2.circle(mask, (x, y), int(radius), 0, -1)
    return mask


def _nearby_flow(uv: np.ndarray, flow: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Guess the flow of new points: the median over the five nearest followed ones."""
    if len(uv) < 5:
        return np.zeros_like(fresh)
    distance = ((fresh[:, None] - uv[None]) ** 2).sum(axis=2)
    nearest = np.argpartition(distance, 4, axis=1)[:, :5]
    return np.median(flow[nearest], axis=1)


def _alike(gray_a: np.ndarray, uv_a: np.ndarray, gray_b: np.ndarray, uv_b: np.ndarray
           ) -> np.ndarray:
    """Return (n,) bool: whose patches look alike, whatever the exposure.

    Corners of mere sensor noise are followed, too, by chance; their patches do not correlate.
    """
    side = np.arange(-4, 5, dtype=np.float32)
    offset = np.stack(np.meshgrid(side, side), axis=-1).reshape(1, -1, 2)
    patches = []
    for gray, uv in ((gray_a, uv_a), (gray_b, uv_b)):
        at = uv[:, None] + offset
        patch = cv2.remap(gray, at[..., 0], at[..., 1], cv2.INTER_LINEAR).astype(np.float32)
        patches.append(patch - patch.mean(axis=1, keepdims=True))
    a, b = patches
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return (a * b).sum(axis=1) > _ALIKE * norm


def _epipolar_inliers(uv_a: np.ndarray, uv_b: np.ndarray, threshold_px: float) -> np.ndarray:
    """Return (n,) bool: who fits the fundamental matrix that most fit.

    A camera at rest, turning, or before a plane has none; then the homography decides, and where
    there is none either, nobody is contradicted.
    """
    if len(uv_a) < _MIN_MODEL_POINTS:
        return np.ones(len(uv_a), bool)
    for find, threshold in ((cv2.findFundamentalMat, threshold_px),
                            (cv2.findHomography, 2 * threshold_px)):
        try:
            model, mask = find(uv_a, uv_b, method=cv2.USAC_MAGSAC,
                               ransacReprojThreshold=threshold, confidence=0.99, maxIters=150)
        except cv2.error as error:      # seen on degenerate pairs: "empty model" assertion
            log.debug('%s on a degenerate pair: %s', find.__name__, error)
            continue
        if model is not None and mask.sum() >= _MIN_MODEL_POINTS:
            return mask.ravel() > 0
    return np.ones(len(uv_a), bool)


def _homography_guess(gray_a: np.ndarray, gray_b: np.ndarray, uv: np.ndarray):
    """Where points land under the homography between two images by ORB matches; None if unclear.

    Half the resolution is enough: the answer is only where the search for each point begins.
    """
    orb = cv2.ORB_create(600)
    halves = [cv2.resize(g, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
              for g in (gray_a, gray_b)]
    (key_a, desc_a), (key_b, desc_b) = (orb.detectAndCompute(g, None) for g in halves)
    if desc_a is None or desc_b is None or min(len(desc_a), len(desc_b)) < 20:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(desc_a, desc_b)
    if len(pairs) < 20:
        return None
    a = 2 * np.float32([key_a[m.queryIdx].pt for m in pairs])
    b = 2 * np.float32([key_b[m.trainIdx].pt for m in pairs])
    try:
        H, mask = cv2.findHomography(a, b, cv2.USAC_MAGSAC, 6.0)
    except cv2.error as error:
        log.debug('homography of a degenerate pair: %s', error)
        return None
    if H is None or mask.sum() < 15:
        return None
    return cv2.perspectiveTransform(uv[:, None].astype(np.float64), H)[:, 0]
