"""Depth layers of a frame as label images, and how much the layers of two frames overlap.

A label image (H, W) gives every pixel the number of its layer, 0 to n - 1; a layer need not be
called the same in the next frame.
"""

from typing import Tuple

import cv2
import numpy as np


def neighbours(labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return labels a < b (M,), (M,) of all pairs of layers that touch (4-neighbourhood)."""
    pairs = [np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()]),
             np.stack([labels[:-1].ravel(), labels[1:].ravel()])]
    a, b = np.concatenate(pairs, axis=1).astype(np.int64)
    touch = a != b
    low, high = np.minimum(a[touch], b[touch]), np.maximum(a[touch], b[touch])
    n = int(labels.max()) + 1
    low, high = np.divmod(np.unique(low * n + high), n)
    return low, high


def means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean of the values (H, W) over each layer, (n,) f64."""
    flat = labels.ravel()
    return np.bincount(flat, values.ravel().astype(np.float64)) / np.bincount(flat)


def merge_close(labels: np.ndarray, depth: np.ndarray, threshold: float,
                is_first_alone: bool = False) -> np.ndarray:
    """Return labels (H, W) after joining touching layers whose mean depths are close.

    Single linkage: pairs are compared by the means before any joining (LASER, depth layers).
    ``is_first_alone`` leaves layer 0, that of the upper left pixel, unjoined, as LASER's code
    does by mistake. Labels must be 0 to n - 1 without gaps.
    """
    mean = means(depth, labels)
    a, b = neighbours(labels)
    join = np.abs(mean[a] - mean[b]) < threshold
    if is_first_alone:
        join &= a > 0
    return relabel(labels, a[join], b[join], len(mean))


def relabel(labels: np.ndarray, a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """Return labels (H, W) int32 in which layers a (M,) and b (M,) of 0 to n - 1 are one."""
    least = np.arange(n)        # of the layers known to be one with each
    while True:
        following = least.copy()
        np.minimum.at(following, a, least[b])
        np.minimum.at(following, b, least[a])
        following = following[following]
        if np.array_equal(following, least):
            break
        least = following
    _, number = np.unique(least, return_inverse=True)
    return number.astype(np.int32)[labels]


def overlap_counts(labels_a: np.ndarray, labels_b: np.ndarray, n_a: int,
                   n_b: int) -> np.ndarray:
    """Return (n_a, n_b) i64: the pixels that layer i of one image and j of the other share.

    Pixels with a label below 0 in either do not count.
    """
    a, b = labels_a.ravel().astype(np.int64), labels_b.ravel()
    if a.size and (a.min() < 0 or b.min() < 0):
        used = (a >= 0) & (b >= 0)
        a, b = a[used], b[used]
    return np.bincount(a * n_b + b, minlength=n_a * n_b).reshape(n_a, n_b)


def nearest_known(known: np.ndarray) -> np.ndarray:
    """Return the flat position (h, w) i64 of the nearest known pixel; of known ones their own."""
    _, number = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    position = np.zeros(int(number.max()) + 1, np.int64)
    position[number[known]] = np.flatnonzero(known)
    return position[number]


def iou(counts: np.ndarray) -> np.ndarray:
    """Return the intersection over union (n_a, n_b) f64 of layers that cover their images."""
    union = counts.sum(axis=1, keepdims=True) + counts.sum(axis=0) - counts
    return counts / np.maximum(union, 1)


def count(labels: np.ndarray) -> np.ndarray:
    """Return the number of layers of each frame (N,) of label images (N, H, W)."""
    return labels.reshape(len(labels), -1).max(axis=1).astype(np.int64) + 1
