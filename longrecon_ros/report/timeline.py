"""When inference and registration of the last windows ran, and how much of it at once."""

from typing import Any

import numpy as np

from .record import RunStatistics


def timeline_of(statistics: RunStatistics) -> dict[str, Any] | None:
    """Return the spans (start, end; s since the first frame) of the last windows as plain values.

    ``hidden_share`` is the part of the registration time that lies inside of inference. None
    where no times were measured.
    """
    if not statistics.spans_s:
        return None
    infer, register = (np.array([spans_s[part] for spans_s in statistics.spans_s])
                       for part in ('backbone', 'register'))
    return {'first_window': len(statistics.windows) - len(infer),
            'backbone_s': infer.round(6).tolist(), 'register_s': register.round(6).tolist(),
            'hidden_share': hidden_share(infer, register)}


def hidden_share(infer_s: np.ndarray, register_s: np.ndarray) -> float | None:
    """Return the part of the spans ``register_s`` (W, 2) that lies in some of ``infer_s`` (V, 2).

    Those of one kind must not overlap each other. None where ``register_s`` takes no time.
    """
    total_s = (register_s[:, 1] - register_s[:, 0]).sum()
    start_s = np.maximum(register_s[:, None, 0], infer_s[None, :, 0])
    end_s = np.minimum(register_s[:, None, 1], infer_s[None, :, 1])
    return float((end_s - start_s).clip(0.0).sum() / total_s) if total_s > 0 else None
