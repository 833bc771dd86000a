"""What comparing one array with its reference gave."""

from dataclasses import dataclass

import numpy as np

BORDER_SHARE = 0.001
"""Share of the pixels of piecewise constant maps that may lie on the other side of a border."""


@dataclass(frozen=True)
class Result:
    """One line of the report: a deviation that must not exceed a tolerance."""

    name: str
    deviation: float
    tolerance: float
    remark: str = ''
    is_judged: bool = True                  # False: for information, no part of the verdict

    @property
    def is_good(self) -> bool:
        """NaN is no match."""
        return bool(self.deviation <= self.tolerance)


def compare(name: str, found, reference: np.ndarray, tolerance: float,
            share: float = 0.0) -> Result:
    """Compare numbers; ``share`` of the entries may deviate by more than the tolerance."""
    found = np.asarray(found)
    if found.shape != reference.shape:
        return Result(name, np.inf, tolerance, f'shape {found.shape}, not {reference.shape}')
    if not reference.size:
        return Result(name, 0.0, tolerance)
    difference = np.abs(found.astype(np.float64) - reference.astype(np.float64))
    if np.isnan(difference).any():
        return Result(name, np.nan, tolerance, 'not a number')
    worst = float(difference.max())
    if share and worst > tolerance:
        beyond = float((difference > tolerance).mean())
        kept = float(np.quantile(difference, 1 - share, method='lower'))
        return Result(name, kept, tolerance, f'{100 * beyond:.3f} % of entries beyond, worst '
                                             f'{worst:.2g}; {100 * share:g} % may be')
    return Result(name, worst, tolerance)


def compare_partitions(name: str, found: np.ndarray, reference: np.ndarray,
                       share: float = 0.0) -> Result:
    """Compare label images (..., H, W) whatever the labels are called; deviation is a share."""
    if found.shape != reference.shape:
        return Result(name, np.inf, share, f'shape {found.shape}, not {reference.shape}')
    h, w = reference.shape[-2:]
    wrong = [_disagreement(a, b) for a, b in zip(found.reshape(-1, h, w),
                                                 reference.reshape(-1, h, w))]
    return Result(name, float(np.mean(wrong)), share, 'share of pixels, as partitions')


def match_labels(found: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return for each label of ``found`` the label of ``reference`` that it covers most."""
    counts = np.zeros((int(found.max()) + 1, int(reference.max()) + 1), np.int64)
    np.add.at(counts, (found.ravel().astype(int), reference.ravel().astype(int)), 1)
    return counts.argmax(axis=1)


def _disagreement(found: np.ndarray, reference: np.ndarray) -> float:
    """Share of pixels outside the best matches, counted both ways."""
    one = (match_labels(found, reference)[found.astype(int)] != reference).mean()
    two = (match_labels(reference, found)[reference.astype(int)] != found).mean()
    return float(max(one, two))
