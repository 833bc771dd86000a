"""The node's poses between windows that come late: the real pipeline and tracker, without ROS."""

import numpy as np
import pytest
from street import frames_of, street, true_base

from longrecon_ros import config
from longrecon_ros.config import build
from longrecon_ros.io.calibration import Calibration
from longrecon_ros.pipeline import Pipeline
from longrecon_ros.ros.estimator import Estimator
from longrecon_ros.scale import ScaleConfig
from longrecon_ros.tracking import TrackingConfig
from longrecon_ros.types import FrameState
from longrecon_ros.worker.messages import read_step, step_message

N = 36


@pytest.fixture(scope='module')
def production():
    """Return a drive down a street."""
    return street(N)


@pytest.fixture(scope='module')
def frames(production):
    """Return the frames of the drive."""
    return frames_of(production)


@pytest.fixture(scope='module')
def conf():
    """Return the configuration that the node's tests have."""
    return config.load(None, {'window.size': 8, 'window.overlap': 3, 'loop.use_thread': 'never'})


@pytest.fixture(scope='module')
def windows(frames, conf):
    """Return what the worker says of the windows."""
    pipeline, found = Pipeline.from_config(conf, is_live=True), []
    for frame in frames:
        update = pipeline.push(frame)
        if update is not None:
            found.append(read_step({**step_message(update, pipeline.tail()), 'map': {}}))
    return found


# the image after which each window's answer comes: windows that are up to 12 images late, and
# near points of whose last frame have left the view by then
@pytest.mark.parametrize('due', [
    [15, 15, 19, 34, 37, 46], [8, 12, 18, 34, 37, 37], [8, 25, 25, 34, 35, 35],
    [17, 26, 30, 31, 31, 33], [14, 17, 17, 34, 40, 40], [7, 12, 17, 22, 27, 32]])
def test_late_windows_make_no_step_a_jump(due, production, frames, windows, conf):
    truth = [true_base(production, i) for i in range(N)]
    estimator = Estimator(build(TrackingConfig, conf.tracking), ScaleConfig(source='wheel'),
                          lambda: 1.0)
    estimator.begin(Calibration(frames[0].K, np.zeros(5), 'plumb_bob', (320, 240)),
                    production.world.T_base_camera)
    states, n = {}, 0
    for i, frame in enumerate(frames):
        estimator.add_wheel(frame.stamp_ns, truth[i])
        while n < len(windows) and due[n] < i:
            states.update((s.stamp_ns, s) for s in estimator.step(windows[n])[0])
            n += 1
        state = estimator.track(frame.stamp_ns, frame.image)
        if state is not None:
            states[state.stamp_ns] = state
    assert sorted(states) == [frame.stamp_ns for frame in frames]
    assert all(state.state is not FrameState.LOST for state in states.values())
    path = np.array([states[frame.stamp_ns].T_odom_base[:3, 3] for frame in frames])
    steps, true_steps = (np.linalg.norm(np.diff(p, axis=0), axis=1)
                         for p in (path, np.array(truth)[:, :3, 3]))
    # before its first window the scale is not known
    known = slice(due[0] + 1, None)
    assert (steps[known] < 1.4 * true_steps[known]).all()
    assert steps[known].sum() == pytest.approx(true_steps[known].sum(), rel=0.1)
