"""Depth layers: what is a border, what is none, how layers go on, how they are joined."""

import numpy as np
import pytest

from longrecon_ros.alignment.segments import (
    count,
    iou,
    means,
    merge_close,
    neighbours,
    overlap_counts,
    relabel,
)
from longrecon_ros.alignment.surfaces import (
    continue_layers,
    find_layers,
    full_size,
    log_depth,
    SurfaceConfig,
    work_stride,
)

CONFIG = SurfaceConfig()
NOTHING = np.full((60, 80), np.nan, np.float32)


def plane(slant=0.0):
    """Depth (60, 80) of a plane: inverse depth is linear in the columns."""
    return (1 / (0.25 + slant * np.arange(80) / 80) * np.ones((60, 1))).astype(np.float32)


def with_box(depth, z, rows=slice(15, 45), columns=slice(25, 60)):
    depth = depth.copy()
    depth[rows, columns] = z
    return depth


def layers_of(depth, field=NOTHING):
    return find_layers(log_depth(depth), field, CONFIG)


def same_partition(a, b):
    return len(np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).T) == len(np.unique(a)) == \
        len(np.unique(b))


@pytest.mark.parametrize('slant', [0.0, 0.5, 3.0])
def test_a_plane_is_one_layer_however_slanted(slant):
    assert layers_of(plane(slant)).max() == 0


@pytest.mark.parametrize('unit', [1e-3, 1.0, 1e3])
@pytest.mark.parametrize('z', [3.6, 2.0, 6.0])
def test_a_box_is_a_layer_in_any_unit(z, unit):
    labels = layers_of(with_box(plane(), z) * np.float32(unit))
    assert labels.max() == 1
    truth = (with_box(plane(), 0) == 0).astype(int)
    assert (labels != labels[0, 0]).astype(int)[truth == 1].mean() > 0.98
    assert (labels == labels[0, 0])[truth == 0].all()


def test_noise_and_wrong_pixels_make_no_layers():
    rng = np.random.default_rng(0)
    depth = with_box(plane(0.3), 1.3) * (1 + 0.01 * rng.normal(size=(60, 80))).astype(np.float32)
    depth[rng.random(depth.shape) < 0.03] *= 2
    assert layers_of(depth).max() == 1


def test_a_jump_of_the_scale_is_a_border_where_depth_is_even():
    field = np.zeros((60, 80), np.float32)
    field[:, 40:] = 0.08
    labels = layers_of(plane(), field)
    assert labels.max() == 1 and (labels[:, :38] == labels[0, 0]).all()
    assert (labels[:, 42:] == labels[0, -1]).all()
    noisy = (0.05 * np.random.default_rng(0).normal(size=field.shape)).astype(np.float32)
    assert layers_of(plane(), noisy).max() == 0, 'noise all over is no border'


def test_unknown_depth():
    depth = with_box(plane(), 2.0)
    depth[:10] = np.nan
    labels = layers_of(depth)
    assert labels.shape == depth.shape and labels.min() == 0 and labels.max() == 1
    assert layers_of(np.full((60, 80), np.nan, np.float32)).max() == 0
    assert layers_of(np.full((60, 80), np.inf, np.float32)).max() == 0


def test_small_layers_join_what_is_nearest_in_depth():
    labels = layers_of(with_box(plane(), 2.0, slice(30, 32), slice(40, 42)))
    assert labels.max() == 0


def test_full_size_is_exact_at_borders():
    depth = np.full((90, 120), 4.0, np.float32)
    depth[22:67, 31:88] = 2.0
    work = log_depth(depth)[1::3, 1::3]
    labels = find_layers(work, np.full_like(work, np.nan), CONFIG)
    full = full_size(labels, work, depth, 3)
    assert same_partition(full == full[0, 0], depth == 4.0)


def test_layers_go_on():
    log = log_depth(with_box(plane(), 2.0))
    before = find_layers(log, NOTHING, CONFIG)
    carried = before.copy()
    carried[:, :6] = -1                     # has come into view beside the wall
    labels, origin, unseen = continue_layers(log, carried, CONFIG, 2)
    assert labels.max() == 1 and (origin[labels] == before).mean() > 0.995
    assert unseen[labels[0, 0]] == pytest.approx(6 * 60 / (before == before[0, 0]).sum(), rel=0.3)
    new = with_box(with_box(plane(), 2.0), 1.0, slice(20, 40), slice(66, 78))
    carried[18:42, 64:] = -1
    labels, origin, _ = continue_layers(log_depth(new), carried, CONFIG, 2)
    assert origin[labels[30, 72]] == -1 and origin[labels[0, 0]] == before[0, 0]
    nothing, origin, _ = continue_layers(log, np.full(log.shape, -1), CONFIG, 2)
    assert nothing.max() == 1 and (origin == -1).all()
    assert ((nothing == nothing[0, 0]) == (before == before[0, 0])).mean() > 0.995
    empty = continue_layers(np.full_like(log, np.nan), carried, CONFIG, 2)
    assert empty[0].max() == 0 and empty[1].tolist() == [-1]


def test_merging_of_close_means_and_the_original_first_label():
    labels = np.repeat([[0, 1, 2, 3]], 4, axis=0)
    depth = np.array([1.0, 1.05, 1.12, 3.0])[labels]
    merged = merge_close(labels, depth, 0.1)
    assert same_partition(merged, np.repeat([[0, 0, 0, 1]], 4, axis=0)), 'single linkage'
    alone = merge_close(labels, depth, 0.1, is_first_alone=True)
    assert same_partition(alone, np.repeat([[0, 1, 1, 2]], 4, axis=0))
    assert merge_close(labels, depth, 100).max() == 0
    assert merge_close(labels, depth, 100, is_first_alone=True).max() == 1


def test_counts_and_iou():
    a, b = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, -1]])
    np.testing.assert_array_equal(overlap_counts(a, b, 2, 2), [[1, 1], [0, 1]])
    whole = overlap_counts(a, np.array([[0, 0, 0, 1]]), 2, 2)
    np.testing.assert_allclose(iou(whole), [[2 / 3, 0], [1 / 4, 1 / 2]])
    np.testing.assert_array_equal(count(np.stack([a, b])), [2, 2])
    low, high = neighbours(np.array([[0, 2], [1, 2]]))
    assert list(zip(low, high)) == [(0, 1), (0, 2), (1, 2)]
    np.testing.assert_allclose(means(np.array([[1.0, 3], [5, 7]]), np.array([[0, 0], [1, 1]])),
                               [2, 6])


def test_relabel_joins_chains():
    labels = np.arange(6).reshape(2, 3)
    found = relabel(labels, np.array([0, 4, 1]), np.array([4, 5, 2]), 6)
    assert same_partition(found, np.array([[0, 1, 1], [2, 0, 0]]))


@pytest.mark.parametrize('shape, stride', [((98, 182), 1), ((294, 518), 3), ((60, 80), 1)])
def test_stride(shape, stride):
    assert work_stride(shape, CONFIG.work_pixels) == stride
