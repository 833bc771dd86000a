"""What the doctor of a camera finds, by the facts."""

import dataclasses

import pytest
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from longrecon_ros.ros.doctor import Doctor
from longrecon_ros.ros.endpoints import choose_qos, Offer, Request
from longrecon_ros.ros.findings import DoctorConfig, Facts, Finding, Level, worst

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
VOLATILE, LATCHED = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL
START_NS = 1_700_000_000_000_000_000
COMPRESSED = 'sensor_msgs/msg/CompressedImage'


class Camera:
    """A camera of 30 images a second, its doctor, and the facts while all is well."""

    def __init__(self, period_ns=33_000_000, **config):
        self.doctor = Doctor('/cam/image', '/cam/camera_info', DoctorConfig(**config))
        self.period_ns, self.n, self.steady_s = period_ns, 0, 100.0
        self.facts = Facts(
            steady_s=0.0, now_ns=0, offers=(Offer('/driver'),), request=Request(RELIABLE),
            n_info_publishers=1, info_state='good', info_size=(640, 480),
            camera_frame='optical', is_mounted=True)

    def send(self, n=40, lag_ns=20_000_000, n_lost=0, **image):
        """Let images come, ``n_lost`` before each."""
        for _ in range(n):
            self.n += 1 + n_lost
            self.steady_s += (1 + n_lost) * self.period_ns * 1e-9
            self.doctor.take_image(self.now_ns - lag_ns, self.now_ns, self.steady_s,
                                   **{'n_lost': n_lost, 'size': (640, 480), **image})
        return self

    @property
    def now_ns(self):
        """The clock, which goes with the images."""
        return START_NS + self.n * self.period_ns

    def wait(self, duration_s):
        """Let time pass without images."""
        self.steady_s += duration_s
        return self

    def find(self, **facts):
        """Return the findings by code, when these facts are other than usual."""
        facts = {'steady_s': self.steady_s, 'now_ns': self.now_ns, **facts}
        found = self.doctor.examine(dataclasses.replace(self.facts, **facts))
        assert all(finding.fix and finding.text for finding in found)
        assert [f.level for f in found] == sorted((f.level for f in found), reverse=True)
        return {finding.code: finding for finding in found}


def test_a_good_camera_has_no_findings():
    camera = Camera(expected_rate_hz=30.0)
    assert camera.find() == {}                  # before the first image
    for _ in range(10):
        assert camera.send().find() == {}
    assert camera.doctor.rate_hz() == pytest.approx(1e9 / 33_000_000)
    assert worst([]) is Level.OK


def test_a_finding_is_one_line_with_its_fix():
    finding = Finding(Level.WARN, 'NO_TF', 'no way', 'publish it')
    assert str(finding) == 'NO_TF: no way; publish it'
    assert worst([finding, dataclasses.replace(finding, level=Level.ERROR)]) is Level.ERROR


def test_nobody_publishes():
    camera = Camera()
    found = camera.find(offers=())['NO_PUBLISHER']
    assert found.level is Level.WARN and 'ROS_DOMAIN_ID' in found.fix
    found = camera.find(offers=(), image_topics=('/a/image', '/b/image'))['NO_PUBLISHER']
    assert '/a/image, /b/image' in found.text and '-r image:=/a/image' in found.fix
    found = camera.find(offers=(), image_topics=('/cam/image/compressed',))['NO_PUBLISHER']
    assert 'node.image_transport to compressed' in found.fix


def test_a_camera_that_goes_away_is_an_error():
    camera = Camera().send()
    assert 'NO_PUBLISHER' not in camera.wait(1.0).find(offers=())
    assert camera.wait(5.0).find(offers=())['NO_PUBLISHER'].level is Level.ERROR


@pytest.mark.parametrize('request_, offer, policy', [
    (Request(RELIABLE), Offer('/driver', reliability=BEST_EFFORT), 'reliability'),
    (Request(RELIABLE, LATCHED), Offer('/driver'), 'durability'),
    (Request(RELIABLE), Offer('/driver', reliability=ReliabilityPolicy.UNKNOWN), 'reliability')])
def test_quality_of_service_that_does_not_match(request_, offer, policy):
    camera = Camera()
    found = camera.find(request=request_, offers=(offer,))['QOS_MISMATCH']
    assert found.level is Level.ERROR
    assert f'/driver offers less {policy}' in found.text and 'node.image_qos' in found.fix
    # silence is no finding of its own then
    assert 'NO_IMAGES' not in camera.wait(60.0).find(request=request_, offers=(offer,))
    both = camera.find(request=request_, offers=(offer, Offer('/b', durability=LATCHED)))
    assert both['QOS_MISMATCH'].level is Level.WARN


def test_what_the_middleware_says_of_a_mismatch():
    assert Camera().find(n_incompatible=1)['QOS_MISMATCH'].level is Level.ERROR


def test_a_topic_of_another_type():
    found = Camera().find(offers=(Offer('/driver', COMPRESSED),))['WRONG_TYPE']
    assert found.level is Level.ERROR and 'image_transport to compressed' in found.fix
    found = Camera().find(offers=(Offer('/driver'),), kind=COMPRESSED)['WRONG_TYPE']
    assert 'image_transport to raw' in found.fix


def test_two_publishers():
    found = Camera().send().find(offers=(Offer('/a'), Offer('/b')))['TWO_PUBLISHERS']
    assert '/a, /b' in found.text and 'stop all but one' in found.fix


def test_a_publisher_but_no_images():
    camera = Camera(silence_s=3.0)
    camera.wait(100.0).find(offers=())
    assert camera.find() == {}                  # it has only just come
    found = camera.wait(4.0).find()['NO_IMAGES']
    assert found.level is Level.ERROR
    assert 'no image arrived for 4 s' in found.text and 'config/fastdds.xml' in found.fix


def test_images_that_stop():
    camera = Camera().send()
    assert camera.find() == camera.wait(2.9).find() == {}
    assert list(camera.wait(0.2).find()) == ['NO_IMAGES']
    assert camera.send().find() == {}


def test_lost_messages_by_their_numbers():
    camera = Camera().send(200, n_lost=1)
    found = camera.find()['LOST_MESSAGES']
    assert '100 of 200 images of /cam/image were lost on the way' in found.text
    assert camera.send(120).find() == {}


def test_lost_messages_by_their_stamps():
    camera = Camera()
    for _ in range(20):
        camera.send(4)
        camera.n += 1
    found = camera.find()['LOST_MESSAGES']
    assert '19 of 99 images' in found.text and 'by their stamps' in found.text


def test_few_losses_and_a_pause_are_no_finding():
    camera = Camera(loss_ratio=0.05).send(50)
    camera.n += 1
    camera.send(20)
    camera.n += 100_000
    assert camera.send(20).find() == {}


def test_jitter_is_no_loss():
    camera = Camera()
    for i in range(60):
        camera.send(1, lag_ns=20_000_000 + 8_000_000 * (i % 2))
    assert camera.find() == {}


def test_big_raw_best_effort_images():
    camera = Camera().send(n_bytes=6_000_000)
    weak = Request(BEST_EFFORT)
    found = camera.find(request=weak)['BEST_EFFORT_RAW']
    assert found.level is Level.OK and found.fix.startswith('send compressed images')
    assert camera.find() == {}
    camera.send(n_lost=1, n_bytes=6_000_000)
    assert camera.find(request=weak)['LOST_MESSAGES'].fix == found.fix
    offers = (Offer('/driver', COMPRESSED),)
    assert Camera().send(n_bytes=600_000).find(request=weak, kind=COMPRESSED, offers=offers) == {}


def test_stamps_of_zero():
    camera = Camera().send()
    camera.doctor.take_image(0, camera.now_ns, camera.steady_s)
    found = camera.find()
    assert list(found) == ['STAMP_ZERO'] and found['STAMP_ZERO'].level is Level.ERROR
    assert camera.send().find() == {}


@pytest.mark.parametrize('lag_s, is_sim_time, code, text, fix', [
    (-1.0, False, 'STAMP_FUTURE', '1.0 s ahead', 'chrony'),
    (-0.3, True, 'STAMP_FUTURE', '300 ms ahead', 'chrony'),
    (5.0, False, 'STAMP_PAST', '5.0 s old', 'chrony'),
    (30 * 86400.0, False, 'STAMP_PAST', '30 days old', 'use_sim_time to true'),
    (-30 * 86400.0, True, 'STAMP_FUTURE', '30 days ahead', 'use_sim_time to false')])
def test_stamps_of_another_clock(lag_s, is_sim_time, code, text, fix):
    found = Camera().send(lag_ns=round(lag_s * 1e9)).find(is_sim_time=is_sim_time)
    assert list(found) == [code]
    assert text in found[code].text and fix in found[code].fix


def test_one_late_image_is_no_finding():
    camera = Camera().send(29)
    assert camera.send(1, lag_ns=9_000_000_000).find() == {}


def test_simulated_time_that_stands_still():
    camera = Camera().send()
    now_ns = camera.now_ns
    assert camera.find(is_sim_time=True, now_ns=now_ns) == {}
    camera.send(200)
    found = camera.find(is_sim_time=True, now_ns=now_ns)['SIM_TIME_STOPPED']
    assert 'stands still' in found.text and '--clock' in found.fix
    assert 'SIM_TIME_STOPPED' not in camera.find(is_sim_time=False, now_ns=now_ns)
    # a recording that ended
    assert 'SIM_TIME_STOPPED' not in camera.wait(60.0).find(is_sim_time=True, now_ns=now_ns)


def test_simulated_time_that_never_came():
    camera = Camera()
    assert camera.find(is_sim_time=True, now_ns=0) == {}
    found = camera.wait(10.0).find(is_sim_time=True, now_ns=0, offers=())
    assert 'never came' in found['SIM_TIME_STOPPED'].text


def test_a_slow_camera():
    found = Camera(period_ns=500_000_000).send().find()
    assert list(found) == ['SLOW_CAMERA'] and 'only 2.0 images' in found['SLOW_CAMERA'].text


def test_another_rate_than_expected():
    found = Camera(period_ns=66_000_000, expected_rate_hz=30.0).send().find()
    assert list(found) == ['WRONG_RATE']
    assert '15.2 images a second, not 30.0' in found['WRONG_RATE'].text


def test_no_calibration():
    camera = Camera().send(10)
    assert camera.find(info_state='missing') == {}          # it may still come
    camera.send(200)
    found = camera.find(info_state='missing', n_info_publishers=0)['NO_CAMERA_INFO']
    assert found.level is Level.WARN and 'nobody publishes /cam/camera_info' in found.text
    found = camera.find(info_state='missing')['NO_CAMERA_INFO']
    assert 'no message arrived' in found.text


def test_calibrations_that_are_wrong():
    camera = Camera().send()
    found = camera.find(info_size=(1280, 720))['CAMERA_INFO_SIZE']
    assert found.level is Level.ERROR
    assert '640x480 px' in found.text and '1280x720 px' in found.text
    found = camera.find(info_state='uncalibrated', info_size=None)['UNCALIBRATED']
    assert found.level is Level.WARN and 'cameracalibrator' in found.fix
    found = camera.find(info_state='bad', info_text='K holds NaN')['BAD_CAMERA_INFO']
    assert found.level is Level.ERROR and found.text == 'K holds NaN'


def test_a_camera_without_a_place():
    camera = Camera().send()
    found = camera.find(is_mounted=False)['NO_TF']
    assert 'from base_link to optical' in found.text
    assert '--frame-id base_link --child-frame-id optical' in found.fix
    assert 'NO_FRAME' in camera.find(is_mounted=False, camera_frame='')
    assert camera.find(is_mounted=None, camera_frame='') == {}


@pytest.mark.parametrize('offers, reliability, durability, text', [
    ((), BEST_EFFORT, VOLATILE, 'no publisher yet'),
    ((Offer('/a'),), RELIABLE, VOLATILE, 'all publishers offer it'),
    ((Offer('/a'), Offer('/b', reliability=BEST_EFFORT)), BEST_EFFORT, VOLATILE,
     '/b offers no more'),
    ((Offer('/a', durability=LATCHED),), RELIABLE, LATCHED, 'transient local'),
    ((Offer('/a', durability=LATCHED), Offer('/b')), RELIABLE, VOLATILE, 'volatile')])
def test_quality_of_service_is_chosen_by_the_weakest(offers, reliability, durability, text):
    chosen = choose_qos(offers)
    assert chosen[:2] == (reliability, durability)
    assert text in chosen[2]
    camera = Camera()
    assert 'QOS_MISMATCH' not in camera.find(offers=offers, request=Request(*chosen[:2]))


@pytest.mark.parametrize('field, value', [('silence_s', 0.0), ('loss_ratio', 2.0)])
def test_wrong_limits(field, value):
    with pytest.raises(ValueError, match=f'{field}: expected'):
        DoctorConfig(**{field: value})
