"""What a real camera does to an image: blur, exposure, banding, noise. All seeded."""

from dataclasses import dataclass

import cv2
import numpy as np

_FLICKER_HZ = 100.0
_READOUT_S = 0.03
_FLICKER_DRIFT_HZ = 0.73


@dataclass(frozen=True, slots=True)
class Effects:
    """Strength of each effect; 0 switches it off."""

    noise: float = 0.0
    """Standard deviation of the sensor noise, grey levels."""
    exposure: float = 0.0
    """Amplitude of a slow change of exposure, stops: 1 doubles and halves the brightness."""
    blur: float = 0.0
    """Shutter time as a share of the time between frames, 0 to 1: motion blur."""
    rolling: float = 0.0
    """Relative amplitude of brightness bands that run over the rows, 0 to 1."""
    blur_samples: int = 5
    """Renderings that are averaged for one blurred image."""

    def __post_init__(self):
        if not 0 <= self.noise <= 100:
            raise ValueError(f'Effects.noise: expected 0 to 100 grey levels, got {self.noise}')
        if not 0 <= self.exposure <= 4:
            raise ValueError(f'Effects.exposure: expected 0 to 4 stops, got {self.exposure}')
        for name in ('blur', 'rolling'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'Effects.{name}: expected 0 to 1, got {getattr(self, name)}')
        if self.blur_samples < 2:
            raise ValueError(f'Effects.blur_samples: expected at least 2, got {self.blur_samples}')


def shutter_times(effects: Effects, t_s: float, period_s: float) -> np.ndarray:
    """Return the times (n,) s at which an image is exposed, centred on its stamp."""
    if effects.blur == 0:
        return np.array([t_s])
    n = effects.blur_samples
    return t_s + effects.blur * period_s * ((np.arange(n) + 0.5) / n - 0.5)


def exposure_gain(effects: Effects, seed: int, t_s: float) -> float:
    """Return the factor of the whole image at a time; it changes over seconds."""
    rng = np.random.default_rng([seed, 211])
    phase, period_s = rng.uniform(0, 2 * np.pi, 3), rng.uniform([2.5, 5.0, 9.0], [4.0, 8.0, 15.0])
    return float(2 ** (effects.exposure * np.sin(2 * np.pi * t_s / period_s + phase).mean()))


def row_gain(effects: Effects, seed: int, t_s: float, height: int) -> np.ndarray:
    """Return the factor (height,) f32 of each row: mains flicker under a rolling shutter."""
    phase = np.random.default_rng([seed, 223]).uniform(0, 2 * np.pi)
    read_s = _READOUT_S * np.arange(height) / height
    angle = 2 * np.pi * (_FLICKER_HZ * read_s + _FLICKER_DRIFT_HZ * t_s) + phase
    return (1 + effects.rolling * np.sin(angle)).astype(np.float32)


def expose(color: np.ndarray, effects: Effects, seed: int, index: int,
           t_s: float) -> np.ndarray:
    """Turn (H, W, 3) f32 colour into the (H, W, 3) uint8 image of frame ``index``."""
    image = color
    if effects.exposure:
        image = image * np.float32(exposure_gain(effects, seed, t_s))
    if effects.rolling:
        image = image * row_gain(effects, seed, t_s, len(image))[:, None, None]
    if effects.noise:
        rng = np.random.default_rng([seed, 227, index])
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noise *= np.float32(effects.noise)
        noise += image
        image = noise
    return cv2.convertScaleAbs(np.maximum(image, 0))
