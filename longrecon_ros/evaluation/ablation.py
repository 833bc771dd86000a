"""One backbone, several ways to chain its windows, each scored against the truth."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np

from ..backbones.base import Backbone
from ..config import WindowConfig
from ..errors import ConfigError, InputError
from ..geometry import se3
from ..geometry.camera import pointmap_from_depth, resize_K
from ..preprocess import Preprocessor
from ..types import Frame, Prediction, Trajectory, Window
from ..windowing import Windower
from .depth import CONFIDENT
from .frame_samples import FrameSample, FrameSamples, shrink
from .points import choose_pixels, CloudSamples
from .variant_run import Variant, VariantResult, VariantRun


@dataclass(frozen=True, slots=True, eq=False)
class AblationResult:
    """All variants on one stream of windows."""

    variants: Tuple[VariantResult, ...]
    n_frames: int
    n_windows: int
    coverage: float                         # confident pixels over those with true depth
    samples: Tuple[FrameSample, ...]

    def of(self, key: str) -> Optional[VariantResult]:
        """Return the result of a variant; None when it did not run."""
        return next((result for result in self.variants if result.variant.key == key), None)


class Ablation:
    """Takes frames with truth, runs the backbone once, and chains its windows in every variant.

    Every window is scored when it is aligned and then forgotten; memory grows by some
    kilobytes a frame (poses, errors of the frame). Raises ConfigError when the windows of the
    backbone share no frames.
    """

    def __init__(self, backbone: Backbone, window: WindowConfig, variants: Sequence[Variant],
                 keep_samples: bool = True):
        spec = backbone.spec
        if spec.feed == 'new' or window.overlap == 0:
            raise ConfigError(
                f'{spec.name}: its windows share no frames, so there is nothing to align; '
                + ('choose another backbone' if spec.feed == 'new'
                   else 'set window.overlap above 0'))
        if backbone.is_untrained:
            raise ConfigError(f'{spec.name}.weights: predictions of an untrained net mean '
                              'nothing, however they are aligned; give it weights')
        self._backbone, self._state = backbone, backbone.init()
        self._prepare = Preprocessor.of(spec)
        self._windower = Windower(window.size, window.overlap, spec.feed)
        self._runs = [VariantRun(variant, spec.gauge) for variant in variants]
        self._true_cloud = CloudSamples()
        self._samples = FrameSamples() if keep_samples else None
        self._stamps_ns: List[int] = []
        self._true_poses: List[np.ndarray] = []
        self._n_windows = 0

    def push(self, frame: Frame) -> bool:
        """Take one frame with its truth; tell if it completed a window."""
        if frame.truth is None:
            raise ValueError(f'frame {frame.index}: expected a frame with its truth')
        window = self._windower.push(self._prepare(frame))
        if window is not None:
            self._process(window)
        return window is not None

    def finish(self) -> AblationResult:
        """Process the frames that no window had yet, and return all scores.

        Raises InputError when there is too little to score: few frames, no motion, no pixel that
        is confident and has a true depth.
        """
        window = self._windower.flush()
        if window is not None:
            self._process(window)
        depth = self._runs[0].depth
        if not depth.n_confident:
            raise InputError(f'nothing to score: of {depth.n_true} pixels with true depth in '
                             f'{depth.n_frames} frames none is confident; give frames with '
                             'true depth that the backbone can use')
        truth = Trajectory(np.array(self._stamps_ns, np.int64), np.stack(self._true_poses))
        true_points = self._true_cloud.points()
        results = tuple(run.result(truth, true_points) for run in self._runs)
        samples = () if self._samples is None else self._samples.samples()
        return AblationResult(results, len(truth), self._n_windows, depth.coverage, samples)

    def _process(self, window: Window) -> None:
        self._n_windows += 1
        self._state, prediction = self._backbone.step(self._state, window)
        links = [run.align(window, prediction) for run in self._runs]
        for n in range(window.n_overlap, len(window.frames)):
            self._score(window.frames[n], n, [link.aligned for link in links])

    def _score(self, frame: Frame, n: int, aligned: Sequence[Prediction]) -> None:
        """Score frame ``n`` of a window, at the pixels that all variants have."""
        self._stamps_ns.append(frame.stamp_ns)
        self._true_poses.append(frame.truth.T_world_camera)
        size = aligned[0].confidence.shape[2], aligned[0].confidence.shape[1]
        true_depth = cv2.resize(frame.truth.depth, size, interpolation=cv2.INTER_NEAREST)
        is_true = np.isfinite(true_depth) & (true_depth > 0)
        is_used = is_true & np.logical_and.reduce([_is_confident(p, n) for p in aligned])
        # the same pixels in both clouds: a perfect prediction has no error, whatever the spacing
        chosen = choose_pixels(is_true)
        if frame.K is not None:
            local = pointmap_from_depth(true_depth, resize_K(frame.K, frame.size, size))
            self._true_cloud.add(se3.apply(frame.truth.T_world_camera,
                                           local.reshape(-1, 3)[chosen]))
        chosen = chosen[is_used.reshape(-1)[chosen]]
        for run, prediction in zip(self._runs, aligned):
            run.score(prediction, n, is_used, true_depth, chosen)
        if self._samples is not None and self._samples.is_wanted():
            self._samples.add(self._sample(n, aligned, is_used, true_depth))
        elif self._samples is not None:
            self._samples.skip()

    def _sample(self, n: int, aligned: Sequence[Prediction], is_used: np.ndarray,
                true_depth: np.ndarray) -> FrameSample:
        ratios, layers, factors = {}, None, None
        for run, prediction in zip(self._runs, aligned):
            ratio = np.full(true_depth.shape, np.nan, np.float32)
            np.divide(prediction.depth[n], true_depth, out=ratio, where=is_used)
            ratios[run.variant.key] = shrink(np.minimum(ratio, 6e4)).astype(np.float16)
            if layers is None and prediction.layers is not None and run.factors is not None:
                layers, factors = shrink(prediction.layers[n]), shrink(run.factors[n])
        return FrameSample(len(self._stamps_ns) - 1, shrink(aligned[0].rgb[n], cv2.INTER_AREA),
                           ratios, layers, factors)


def _is_confident(prediction: Prediction, n: int) -> np.ndarray:
    depth = prediction.depth[n]
    return (prediction.confidence[n] > CONFIDENT) & np.isfinite(depth) & (depth > 0)
