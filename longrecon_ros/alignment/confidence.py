"""Which pixels of a window are trusted: the most confident share of them."""

import numpy as np

_MAX_SAMPLES = 200_000


def threshold(confidence: np.ndarray, share: float) -> float:
    """Return the confidence that the most confident ``share`` of all pixels reach, exactly.

    The (1 - share) quantile with rank rounded to the nearest pixel, as in LASER's code, but for
    any number of pixels. ``confidence`` may be any monotonous measure, logits too.
    """
    flat = confidence.reshape(-1)
    # in f32 like the original, which decides between two neighbouring pixels
    rank = int(np.round(np.float32(1.0 - share) * np.float32(len(flat) - 1)))
    return float(np.partition(flat, rank)[rank])


def confident(confidence: np.ndarray, share: float) -> np.ndarray:
    """Return (N, H, W) bool: pixels of the most confident share that are defined.

    Quantiles come from an even sample of the pixels with confidence above 0, so that undefined
    pixels (sky, frames without a pose) do not crowd out the others.
    """
    flat = confidence.reshape(-1)
    sample = flat[::max(1, len(flat) // _MAX_SAMPLES)]
    sample = sample[sample > 0]
    if not len(sample):
        return np.zeros(confidence.shape, bool)
    rank = int(np.round((1.0 - share) * (len(sample) - 1)))
    return (confidence >= np.partition(sample, rank)[rank]) & (confidence > 0)
