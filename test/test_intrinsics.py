"""One K for a stream: from the camera, or from the first window."""

import dataclasses

import numpy as np
import pytest
from stage import K, Stage, window

from longrecon_ros.alignment.intrinsics import (
    common_K,
    published_K,
    SharedIntrinsics,
    with_shared_K,
)
from longrecon_ros.geometry.camera import project


def bent(prediction, factor=1.2):
    """Return a prediction whose rays spread too far."""
    points = np.array(prediction.local_points)
    points[..., :2] *= factor
    return dataclasses.replace(prediction, local_points=points, K=None)


def test_the_calibration_goes_first():
    prediction = bent(Stage().prediction(0, 3))
    shared = SharedIntrinsics()(window(prediction, 0, 0), prediction)
    np.testing.assert_allclose(shared.K[0], K)
    np.testing.assert_array_equal(shared.depth, prediction.depth)
    pixels = project(shared.local_points[0], K)
    np.testing.assert_allclose(pixels[7, 9], [9, 7], atol=1e-4)


def test_without_calibration_the_first_window_decides_for_all():
    stage, shared = Stage(), SharedIntrinsics()
    first, second = bent(stage.prediction(0, 3)), bent(stage.prediction(2, 3), 0.9)

    def unknown(prediction):
        frames = tuple(dataclasses.replace(f, K=None) for f in window(prediction, 0, 0).frames)
        return dataclasses.replace(window(prediction, 0, 0), frames=frames)
    one, two = shared(unknown(first), first), shared(unknown(second), second)
    np.testing.assert_array_equal(one.K[0], two.K[0])
    np.testing.assert_allclose(one.K[0][:2, :2], K[:2, :2] / 1.2, rtol=1e-3, atol=1e-3)


def test_nothing_to_go_by_leaves_predictions_alone():
    prediction = Stage().prediction(0, 2)
    blind = dataclasses.replace(prediction, K=None,
                                confidence=np.zeros_like(prediction.confidence))
    assert common_K(blind) is None
    frames = tuple(dataclasses.replace(f, K=None) for f in window(blind, 0, 0).frames)
    nowhere = dataclasses.replace(window(blind, 0, 0), frames=frames)
    assert SharedIntrinsics()(nowhere, blind) is blind


def test_the_published_estimate():
    centred = np.array([[50.0, 0, 21], [0, 60, 14], [0, 0, 1]])
    z = np.random.default_rng(0).uniform(1, 3, (28, 42)).astype(np.float32)
    v, u = np.mgrid[0:28, 0:42]
    points = np.stack([(u - 21) * z / 50, (v - 14) * z / 60, z], -1)
    np.testing.assert_allclose(published_K(points), centred, rtol=1e-5)
    prediction = Stage().prediction(0, 2)
    assert with_shared_K(prediction, centred).K[1, 0, 0] == pytest.approx(50)
