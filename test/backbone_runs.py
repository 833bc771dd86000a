"""Backbones as small as they can be, the windows the pipeline would give them, what they say."""

from dataclasses import replace
from typing import Any, Iterable, List, Sequence, Set, Tuple

import numpy as np

from longrecon_ros import backbones, config
from longrecon_ros.backbones.base import Backbone
from longrecon_ros.preprocess import Preprocessor
from longrecon_ros.types import Frame, Prediction, Window
from longrecon_ros.windowing import Windower


def tiny(name: str, **options: Any) -> Backbone:
    """Return a backbone in its smallest form, but for these options."""
    chosen = backbones.load(name)
    return chosen(config.build(chosen.Config, {**chosen.tiny, **options}))


def windows_of(backbone: Backbone, frames: Iterable[Frame], size: int,
               overlap: int) -> List[Window]:
    """Return the windows that the pipeline would make of frames of a camera."""
    prepare = Preprocessor.of(backbone.spec)
    windower = Windower(size, overlap, backbone.spec.feed)
    windows = [windower.push(prepare(frame)) for frame in frames]
    return [window for window in [*windows, windower.flush()] if window is not None]


def run(backbone: Backbone, windows: Sequence[Window],
        state: Any = None) -> Tuple[List[Any], List[Prediction]]:
    """Return all states, the first of which is before the first window, and the predictions."""
    states, predictions = [backbone.init() if state is None else state], []
    for window in windows:
        state, prediction = backbone.step(states[-1], window)
        states.append(state)
        predictions.append(prediction)
    return states, predictions


def predict(backbone: Backbone, windows: Sequence[Window]) -> List[Prediction]:
    """Return the predictions of a new stream."""
    return run(backbone, windows)[1]


def black(frames: Iterable[Frame], numbers: Set[int]) -> List[Frame]:
    """Return the frames, some of them black."""
    return [replace(frame, image=np.zeros_like(frame.image)) if frame.index in numbers else frame
            for frame in frames]
