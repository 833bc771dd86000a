"""Which images of a stream are refused, and what begins a new map."""

import dataclasses

import numpy as np
import pytest

from longrecon_ros.io.calibration import Calibration
from longrecon_ros.ros.intake import Decision, Intake, IntakeConfig, is_same_calibration

OK, GAP, NEW, REFUSE = (Decision.OK, Decision.GAP, Decision.NEW_SEGMENT, Decision.REFUSE)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 33_000_000
SIZE, SMALL = (640, 480), (320, 240)


def calibration(fx=500.0, distortion=(0.1, -0.2, 0.0, 0.0, 0.0), size=SIZE, model='plumb_bob'):
    """Return the calibration of a camera."""
    K = np.array([[fx, 0, 320], [0, fx, 240], [0, 0, 1.0]])
    coefficients = None if distortion is None else np.array(distortion, float)
    return Calibration(K, coefficients, model, size)


class Stream:
    """Feeds an intake at the period of a camera, with a clock that goes along."""

    def __init__(self, **config):
        self.intake = Intake('/cam', IntakeConfig(**config))
        self.stamp_ns = self.now_ns = START_NS

    def send(self, size=SIZE, given=None, step_ns=PERIOD_NS, passed_ns=None):
        """Offer one image ``step_ns`` after the last one."""
        self.stamp_ns += step_ns
        self.now_ns += step_ns if passed_ns is None else passed_ns
        return self.intake.accept(self.stamp_ns, size, given, self.now_ns)

    def decisions(self, n, **image):
        """Offer n images and return what was decided."""
        return [self.send(**image).decision for _ in range(n)]


@pytest.fixture
def stream():
    """Return a stream that has begun."""
    stream = Stream()
    assert stream.decisions(5) == [OK] * 5
    return stream


@pytest.mark.parametrize('stamp_ns', [0, -1])
def test_without_a_stamp(stamp_ns):
    verdict = Intake('/cam').accept(stamp_ns, SIZE, None, START_NS)
    assert (verdict.decision, verdict.reason) == (REFUSE, 'stamp zero')
    assert not verdict.is_accepted
    assert verdict.text.startswith('/cam: ') and 'header.stamp' in verdict.text


@pytest.mark.parametrize('step_ns, reason', [
    (0, 'stamp repeated'), (-PERIOD_NS, 'stamp out of order'),
    (-10**9, 'stamp out of order')])
def test_stamps_out_of_order_are_refused(stream, step_ns, reason):
    verdict = stream.send(step_ns=step_ns)
    assert (verdict.decision, verdict.reason) == (REFUSE, reason)
    assert 'give every image its time of capture' in verdict.text
    stream.stamp_ns -= step_ns
    assert stream.send().decision is OK


def test_a_recording_that_began_again_is_a_new_segment(stream):
    first = stream.send(step_ns=-5 * 10**9)
    assert (first.decision, first.reason) == (REFUSE, 'stamps jumped back')
    assert stream.send().decision is REFUSE
    verdict = stream.send()
    assert (verdict.decision, verdict.reason) == (NEW, 'stamps jumped back')
    assert 'began again' in verdict.text and '; a new map begins' in verdict.text
    assert stream.decisions(3) == [OK] * 3


def test_one_image_is_enough_when_asked_for():
    stream = Stream(n_confirm=1)
    assert stream.decisions(2) == [OK] * 2
    assert stream.send(step_ns=-5 * 10**9).decision is NEW
    assert stream.send(size=SMALL).decision is NEW
    assert stream.send(size=SMALL).decision is OK


def test_a_gap_is_told_and_no_error(stream):
    verdict = stream.send(step_ns=3 * 10**9)
    assert (verdict.decision, verdict.reason, verdict.is_accepted) == (GAP, 'gap', True)
    assert 'no image for 3.0 s' in verdict.text
    assert stream.send().decision is OK


def test_a_slow_camera_has_no_gaps():
    stream = Stream(gap_s=2.0)
    assert stream.decisions(5, step_ns=2 * 10**9) == [OK] * 5


def test_one_stamp_of_the_future_does_not_cost_the_map(stream):
    ahead = stream.send(step_ns=3600 * 10**9, passed_ns=PERIOD_NS)
    assert (ahead.decision, ahead.reason) == (REFUSE, 'stamps jumped ahead')
    stream.stamp_ns -= 3600 * 10**9
    assert stream.decisions(3) == [OK] * 3


def test_stamps_that_stay_ahead_are_a_gap(stream):
    stream.send(step_ns=3600 * 10**9, passed_ns=PERIOD_NS)
    assert stream.decisions(3) == [REFUSE, GAP, OK]


def test_a_new_resolution_counts_after_some_images(stream):
    verdicts = [stream.send(size=SMALL) for _ in range(4)]
    assert [verdict.decision for verdict in verdicts] == [REFUSE, REFUSE, NEW, OK]
    assert verdicts[0].reason == 'size changed'
    assert '640x480 px to 320x240 px' in verdicts[0].text


def test_alternating_resolutions_never_reset_the_map(stream):
    for _ in range(20):
        assert stream.decisions(2, size=SMALL) == [REFUSE] * 2
        assert stream.decisions(1) == [OK]


def test_two_cameras_with_different_clocks_never_reset_the_map(stream):
    for _ in range(20):
        assert stream.send(step_ns=-100 * 10**9).decision is REFUSE
        assert stream.send(step_ns=100 * 10**9 + PERIOD_NS).decision is OK


def test_three_images_that_do_not_agree_are_no_change(stream):
    for size in [SMALL, (800, 600)] * 5:
        assert stream.send(size=size).decision is REFUSE
    assert stream.send().decision is OK


def test_resolution_and_calibration_change_together():
    stream = Stream()
    small = calibration(250.0, size=SMALL)
    assert stream.decisions(3, given=calibration()) == [OK] * 3
    # the image comes before its camera_info
    stale = stream.send(size=SMALL, given=calibration())
    assert (stale.decision, stale.reason) == (REFUSE, 'calibration of another size')
    assert '320x240 px' in stale.text and '640x480 px' in stale.text
    assert stream.decisions(4, size=SMALL, given=small) == [REFUSE, REFUSE, NEW, OK]


def test_the_first_image_must_fit_its_calibration():
    verdict = Stream().send(size=SMALL, given=calibration())
    assert verdict.decision is REFUSE
    assert 'the image is 320x240 px, but its camera_info is for 640x480 px' in verdict.text


@pytest.mark.parametrize('changed, text', [
    (calibration(501.0), 'fx 500.0 to 501.0 px'),
    (calibration(distortion=(0.1, -0.21, 0, 0, 0)), 'another distortion'),
    (calibration(distortion=None), 'another distortion')])
def test_a_new_calibration_begins_a_new_map(changed, text):
    stream = Stream()
    assert stream.decisions(3, given=calibration()) == [OK] * 3
    verdicts = [stream.send(given=changed) for _ in range(4)]
    assert [verdict.decision for verdict in verdicts] == [REFUSE, REFUSE, NEW, OK]
    assert verdicts[2].reason == 'calibration changed' and text in verdicts[2].text


def test_noise_of_a_calibration_is_no_change():
    stream = Stream()
    for i in range(10):
        assert stream.send(given=calibration(500.0 + 0.4 * (i % 2))).decision is OK


def test_a_calibration_stays_known_and_one_that_comes_late_counts():
    stream = Stream()
    assert stream.decisions(2) == [OK] * 2
    verdicts = [stream.send(given=calibration()) for _ in range(4)]
    assert [verdict.decision for verdict in verdicts] == [REFUSE, REFUSE, NEW, OK]
    assert 'none was known' in verdicts[2].text
    assert stream.decisions(2, given=None) == [OK] * 2


def test_reset_forgets_size_and_time(stream):
    stream.intake.reset()
    assert stream.send(size=SMALL, step_ns=-50 * 10**9).decision is OK


@pytest.mark.parametrize('other, is_same', [
    (calibration(distortion=(0.1, -0.2, 0, 0)), True),
    (calibration(distortion=(0.1, -0.2, 0, 0, 0, 0, 0, 0), model='rational_polynomial'), False),
    (calibration(500.4), True), (calibration(500.6), False),
    (dataclasses.replace(calibration(), size=None), True)])
def test_same_calibration(other, is_same):
    assert is_same_calibration(calibration(), other) is is_same
    assert is_same_calibration(other, calibration()) is is_same


def test_a_fisheye_without_coefficients_is_no_pinhole():
    fisheye = calibration(distortion=(0, 0, 0, 0), model='equidistant')
    assert not is_same_calibration(fisheye, calibration(distortion=None))
    assert is_same_calibration(None, None) and not is_same_calibration(None, fisheye)


@pytest.mark.parametrize('field, value', [('gap_s', 0.0), ('restart_s', -1.0), ('n_confirm', 0)])
def test_wrong_limits(field, value):
    with pytest.raises(ValueError, match=f'{field}: expected'):
        IntakeConfig(**{field: value})
