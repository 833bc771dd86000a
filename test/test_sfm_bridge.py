"""The window across a weak link of two sfm windows."""

from dataclasses import replace

import numpy as np
import pytest

from longrecon_ros.backbones._sfm_bridge import mend
from longrecon_ros.backbones.sfm import SfmBackbone, SfmConfig
from longrecon_ros.synthetic.recipe import Production, Recipe
from longrecon_ros.types import Landmarks
from longrecon_ros.windowing import Windower


@pytest.fixture(scope='module')
def session():
    """Return the state of the backbone after some windows of a short drive."""
    film = Production.of(Recipe('street', n_frames=24, size=(160, 120))).film
    backbone, windower = SfmBackbone(SfmConfig(n_tracks=200, n_points=100, depth_width_px=80)), \
        Windower(8, 3)
    state = backbone.init()
    for i in range(24):
        window = windower.push(film.frame(i).to_frame())
        if window is not None:
            state, _ = backbone.step(state, window)
    return state


def test_frames_that_the_last_window_remembered_may_be_forgotten(session):
    from longrecon_ros.sfm.reconstruct import reconstruct
    frame_ids = session.memory + session.last_ids
    result = reconstruct(session, frame_ids, session.solver)
    none = np.zeros(0, np.int64)
    ids = session.outline.frame_ids.copy()
    ids[0] = -7                             # long gone
    # a link that has nothing in common is a weak one
    weak = replace(session.outline, frame_ids=ids,
                   landmarks=Landmarks(none, np.zeros((0, 3)), np.zeros(0)))
    assert -7 not in session.records
    mended = mend(session, weak, frame_ids, result, session.solver)
    assert len(mended.T_gauge_camera) == len(frame_ids)
    assert np.isfinite(mended.T_gauge_camera).all()
