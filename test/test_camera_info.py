from types import SimpleNamespace

import numpy as np
import pytest

from longrecon_ros.errors import InputError
from longrecon_ros.io.camera_info import calibration_of

P = [400., 0, 310, 0, 0, 401, 230, 0, 0, 0, 1, 0]


def _info(**changes):
    fields = {'k': [500., 0, 320, 0, 502, 240, 0, 0, 1], 'd': [.1, -.2, 0, 0, 0], 'p': P,
              'distortion_model': 'plumb_bob', 'width': 640, 'height': 480, 'binning_x': 0,
              'binning_y': 0,
              'roi': SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)}
    return SimpleNamespace(**{**fields, **changes})


def test_plain():
    calibration = calibration_of(_info(), False, 'a')
    np.testing.assert_array_equal(calibration.K, [[500, 0, 320], [0, 502, 240], [0, 0, 1]])
    assert calibration.distortion.tolist() == [.1, -.2, 0, 0, 0]
    assert calibration.size == (640, 480)


def test_rectified_images_have_p_and_no_distortion():
    calibration = calibration_of(_info(distortion_model='equidistant'), True, 'a')
    np.testing.assert_array_equal(calibration.K, np.reshape(P, (3, 4))[:, :3])
    assert calibration.distortion is None


def test_binning_and_region():
    roi = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=300)
    calibration = calibration_of(_info(roi=roi, binning_x=2, binning_y=2), False, 'a')
    np.testing.assert_array_equal(calibration.K, [[250, 0, 110], [0, 251, 100], [0, 0, 1]])
    assert calibration.size == (200, 150)


def test_uncalibrated():
    assert calibration_of(_info(k=[0.] * 9), False, 'a') is None


def test_fisheye_without_coefficients_stays_a_fisheye():
    calibration = calibration_of(_info(d=[0.] * 4, distortion_model='fisheye'), False, 'a')
    assert calibration.distortion_model == 'equidistant'
    assert calibration.distortion.tolist() == [0] * 4


@pytest.mark.parametrize('changes, message', [
    ({'k': [np.nan] * 9}, 'topic: the intrinsics hold NaN'),
    ({'k': [-5., 0, 1, 0, 5, 1, 0, 0, 1]}, 'topic: focal lengths must be positive'),
    ({'d': [np.inf]}, 'topic: the distortion coefficients'),
    ({'distortion_model': 'odd'}, 'topic: the distortion model "odd" is not known')])
def test_faults(changes, message):
    with pytest.raises(InputError, match=message):
        calibration_of(_info(**changes), False, 'topic')
