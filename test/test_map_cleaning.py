"""What keeps wrong points out of the map: depth edges, free space; and normals: known answers."""

import cv2
from hypothesis import given, strategies as st
import numpy as np
import pytest
from sfm_films import film

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pixel_grid, pointmap_from_depth, unproject
from longrecon_ros.mapping.depth_edges import floating, floating_at
from longrecon_ros.mapping.free_space import Evidence, is_contradicted, votes
from longrecon_ros.mapping.normals import normals

W, H = 96, 64
K = np.array([[80.0, 0, 47.5], [0, 80.0, 31.5], [0, 0, 1]])
FLOOR_M = 1.2


def plane(normal, offset: float) -> np.ndarray:
    """Return the depth (H, W) f32 of the plane normal . X = offset; 0 where it is not in front."""
    rays = unproject(pixel_grid((W, H)), np.ones((H, W)), K)
    with np.errstate(divide='ignore'):
        depth = offset / (rays @ np.asarray(normal, float))
    return np.where((depth > 0) & (depth < 1e4), depth, 0).astype(np.float32)


def room() -> np.ndarray:
    """Return the depth (H, W) of a floor that recedes until a wall at 60 m; they meet."""
    floor, wall = plane([0, 1, 0], FLOOR_M), plane([0, 0, 1], 60.0)
    return np.where(floor > 0, np.minimum(floor, wall), wall)


def noisy(depth: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(depth.shape)
    return (depth * np.exp(sigma * noise)).astype(np.float32)


def found(depth: np.ndarray, is_defined=None, **options) -> np.ndarray:
    """Return the floating pixels of one depth map."""
    is_defined = np.ones(depth.shape, bool) if is_defined is None else is_defined
    return floating(depth[None], is_defined[None], **options)[0]


# --- depth edges -------------------------------------------------------------------------------

@pytest.mark.parametrize('turns', [0, 1, 2, 3])
@pytest.mark.parametrize('mixture', [0.1, 0.5, 0.9])
def test_a_mixed_column_between_two_planes_is_found(mixture, turns):
    depth = np.full((40, 40), 2.0, np.float32)
    depth[:, 20:] = 5.0
    depth[:, 20] = 2 + 3 * mixture
    mixed = np.zeros((40, 40), bool)
    mixed[:, 20] = True
    depth, mixed = np.rot90(depth, turns), np.rot90(mixed, turns)
    np.testing.assert_array_equal(found(depth), mixed)
    np.testing.assert_array_equal(found(noisy(depth, 0.003)), mixed)


@pytest.mark.parametrize('corner', [1, -1])
def test_a_mixed_diagonal_is_found(corner):
    y, x = np.mgrid[:40, :40]
    side = x + corner * y - (40 if corner > 0 else 0)
    depth = np.where(side < 0, 2.0, np.where(side > 0, 5.0, 3.0)).astype(np.float32)
    np.testing.assert_array_equal(found(depth), side == 0)


def test_an_edge_that_is_not_mixed_keeps_its_pixels():
    depth = np.full((H, W), 5.0, np.float32)
    depth[20:44, 30:60] = 2.0
    assert not found(depth).any()
    assert found(noisy(depth, 0.005)).mean() < 0.005
    blurred = cv2.GaussianBlur(depth, (0, 0), 0.7)
    is_off = (np.abs(np.log(blurred / depth)) > 0.05)
    marked = found(blurred)
    assert is_off.sum() > 100 and (marked & is_off).sum() > 0.95 * is_off.sum()
    assert (marked & ~is_off).sum() < 0.15 * is_off.sum()


def test_a_floor_at_a_grazing_angle_is_untouched():
    depth = room()
    assert depth[33, 40] > 50 and depth[63, 40] < 3.1, 'by up to half a pixel in depth'
    assert not found(depth).any()
    assert not found(plane([0.9, 0.1, 0.2], 1.0), plane([0.9, 0.1, 0.2], 1.0) > 0).any()
    # what the first difference would take for an edge, and noise on top of it
    steps = np.abs(np.diff(depth, axis=0)) > 0.05 * depth[1:]
    assert steps.mean() > 0.1
    assert found(noisy(depth, 0.005)).mean() < 0.005


def test_a_band_is_found_up_to_the_reach():
    depth = np.full((30, 40), 2.0, np.float32)
    depth[:, 20:] = 6.0
    depth[:, 18:21] = [2.5, 3.2, 4.4]
    assert found(depth, reach_px=3)[:, 18:21].all()
    assert not found(depth, reach_px=3)[:, [15, 23]].any()
    assert found(depth)[:, 19].all(), 'its middle at least'


def test_thin_things_stay():
    depth = np.full((H, W), 5.0, np.float32)
    depth[:, 50] = 2.0
    depth[:, 70:72] = 3.0
    depth[30] = 4.0
    depth[10, 10] = 9.0
    assert not found(depth).any()


def test_undefined_pixels_are_neither_found_nor_sides():
    depth = np.full((30, 40), 2.0, np.float32)
    depth[:, 20:] = 5.0
    depth[:, 20] = 3.0
    is_defined = np.ones(depth.shape, bool)
    is_defined[:10, 20] = is_defined[10:20, 22:26] = False
    marked = found(depth, is_defined)
    assert not marked[:8].any() and not marked[13:17].any() and marked[23:, 20].all()
    for bad in (0, np.nan, np.inf, -1):
        holes = depth.copy()
        holes[~is_defined] = bad
        np.testing.assert_array_equal(found(holes), marked)
    assert not found(np.zeros((30, 40), np.float32)).any()


def test_the_unit_of_depth_and_the_order_of_frames_do_not_matter():
    frames = [noisy(cv2.GaussianBlur(f.depth, (0, 0), 0.7), 0.003, i)
              for i, f in enumerate(film('indoor', 3))]
    depth = np.stack(frames)
    is_defined = depth > 0
    marked = floating(depth, is_defined)
    assert 0.001 < marked.mean() < 0.05
    np.testing.assert_array_equal(floating(1024 * depth, is_defined), marked)
    np.testing.assert_array_equal(floating(depth[::-1], is_defined[::-1])[::-1], marked)


def test_misuse_of_floating():
    depth = np.ones((2, 8, 8), np.float32)
    with pytest.raises(ValueError, match=r'same shape \(N, H, W\)'):
        floating(depth, depth[0] > 0)
    for options in ({'tolerance': 0.0}, {'reach_px': 0}):
        with pytest.raises(ValueError, match='tolerance, reach_px'):
            floating(depth, depth > 0, **options)


# --- free space --------------------------------------------------------------------------------

def wall_view(x_m: float = 0.0, wall_m: float = 4.0, far: float = 0.0):
    """Return pose, K, depth of a view that is x_m to the right, ``far`` from the map's origin."""
    T = se3.from_parts(np.eye(3), [far + x_m, 0, 0])
    return T, K, plane([0, 0, 1], wall_m)


@pytest.mark.parametrize('far', [0.0, 1e5])
def test_a_point_in_free_air_is_denied_by_views_of_the_wall_behind(far):
    points = np.array([[0, 0, 2.0], [0, 0, 4.0], [0, 0, 4.1], [0, 0, 3.9], [0, 0, 5.0],
                       [30, 0, 4.0], [0, 0, -2.0]]) + [far, 0, 0]
    for x_m in (-0.5, 0.0, 0.5):
        said = votes(points, *wall_view(x_m, far=far))
        assert said.dtype == np.int8
        assert said.tolist() == [-1, 1, 1, 1, 0, 0, 0], 'free, 3 on it, hidden, out of view, back'


def test_noise_within_the_tolerance_confirms():
    T, _, depth = wall_view()
    points = pointmap_from_depth(noisy(depth, 0.01), K).reshape(-1, 3)
    assert (votes(points, T, K, noisy(depth, 0.01, 1)) == 1).mean() > 0.999
    said = votes(points, T, K, noisy(depth, 0.01, 1), tolerance=0.005)
    assert (said == 1).mean() < 0.5 and (said == -1).mean() > 0.01


def test_beside_an_edge_nothing_is_denied():
    depth = plane([0, 0, 1], 4.0)
    depth[20:40, 30:50] = 2.0
    grid = pixel_grid((W, H))
    points = unproject(grid, np.full((H, W), 3.0), K).reshape(-1, 3)
    said = votes(points, np.eye(4), K, depth).reshape(H, W)
    np.testing.assert_array_equal(said[20:40, 30:50], 0)
    near = cv2.dilate((depth == 2).astype(np.uint8), np.ones((3, 3))) > 0
    np.testing.assert_array_equal(said == -1, ~near)
    hole = depth.copy()
    hole[5, 5], hole[6, 80] = 0, np.nan
    said = votes(points, np.eye(4), K, hole).reshape(H, W)
    assert not said[4:7, 4:7].any() and not said[5:8, 79:82].any() and said[10, 10] == -1


def test_a_floor_at_a_grazing_angle_does_not_deny_itself():
    depth = room()
    T = se3.from_parts(se3.so3_exp(np.array([0.0, 0.02, 0.003])), [0.05, 0.01, 0.1])
    points = pointmap_from_depth(depth, K)[34:].reshape(-1, 3)
    said = votes(points, T, K, depth_from(T))
    assert not (said == -1).any() and (said == 1).mean() > 0.7


def depth_from(T: np.ndarray) -> np.ndarray:
    """Return the depth that a camera at T (4, 4) sees of `room`."""
    up, ahead = T[:3, :3].T @ [0, 1, 0], T[:3, :3].T @ [0, 0, 1]
    floor, wall = plane(up, FLOOR_M - T[1, 3]), plane(ahead, 60.0 - T[2, 3])
    return np.where(floor > 0, np.where(wall > 0, np.minimum(floor, wall), floor), wall)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 3))
def test_the_rule(n_for, n_against, min_against):
    want = n_against >= min_against and n_against > n_for
    assert is_contradicted(np.array([n_for]), np.array([n_against]), min_against)[0] == want


def walls_and_wrong(rng, scale: float = 1.0):
    """Return points of the wall, times a scale, then one in the air and one behind the wall."""
    wall = pointmap_from_depth(noisy(plane([0, 0, 1], 4.0), 0.003), K).reshape(-1, 3)
    chosen = wall[rng.choice(len(wall), 300, replace=False)]
    return np.concatenate([chosen * scale, [[0, 0, 2.5], [0, 0, 6.0]]])


def test_evidence_finds_what_is_wrong_and_keeps_the_rest():
    points = walls_and_wrong(np.random.default_rng(1))
    evidence = Evidence(points)
    for x_m in (-0.5, 0.0, 0.5):
        evidence.add(*wall_view(x_m))
    assert evidence.n_against[300] == 3 and evidence.n_hidden[301] == 3
    wrong = evidence.is_contradicted()
    assert not wrong[:300].any() and wrong[300:].all()
    assert evidence.is_contradicted(min_hidden=0)[300:].tolist() == [True, False]
    assert evidence.is_contradicted(min_against=4)[300:].tolist() == [False, True]


def test_evidence_does_not_clear_away_a_misplaced_submap():
    points = walls_and_wrong(np.random.default_rng(1), scale=0.9)
    evidence = Evidence(points)
    for x_m in (-0.5, 0.0, 0.5):
        evidence.add(*wall_view(x_m))
    assert (votes(points, *wall_view())[:300] == -1).all()
    wrong = evidence.is_contradicted()
    assert not wrong[:300].any()
    assert Evidence(np.zeros((0, 3))).is_contradicted().shape == (0,)


def test_misuse_of_free_space():
    with pytest.raises(ValueError, match='expected shapes'):
        votes(np.zeros((3, 2)), *wall_view())
    with pytest.raises(ValueError, match='tolerance'):
        votes(np.zeros((3, 3)), *wall_view(), tolerance=1.0)
    with pytest.raises(ValueError, match='tolerance'):
        Evidence(np.zeros((3, 3)), tolerance=0.0)


# --- normals -----------------------------------------------------------------------------------

def angles_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((a * b).sum(axis=1), -1, 1)))


@pytest.mark.parametrize('normal', [[0, 0, 1], [0, 1, 0], [0.3, -0.5, 0.8], [-0.9, 0.1, 0.4]])
def test_normals_of_a_plane(normal):
    depth = plane(normal, 3.0)
    assert (depth > 0).mean() > 0.3
    got = normals(pointmap_from_depth(depth, K), depth > 0)
    assert got.dtype == np.float32 and got.shape == (H, W, 3)
    inside = cv2.erode((depth > 0).astype(np.uint8), np.ones((5, 5))) > 0
    # where a pixel spans many metres, f32 is not exact
    inside &= depth < 30
    expected = -np.array(normal) / np.linalg.norm(normal)
    assert np.abs(got[inside] - expected).max() < 2e-3
    assert not got[depth == 0].any()


def test_normals_of_a_sphere():
    rays = unproject(pixel_grid((W, H)), np.ones((H, W)), K)
    centre, radius = np.array([0.1, -0.1, 4.0]), 1.2
    a, b, c = (rays**2).sum(-1), rays @ centre, centre @ centre - radius**2
    hit = b**2 - a * c > 0
    depth = np.where(hit, (b - np.sqrt(np.maximum(b**2 - a * c, 0))) / a, 0)
    points = pointmap_from_depth(depth, K)
    got = normals(points, reach_px=1)
    expected = (points - centre) / radius
    is_set = got.any(axis=2)
    front = (expected[is_set] * points[is_set]).sum(-1) / np.linalg.norm(points[is_set], axis=1)
    assert is_set.sum() > 0.7 * hit.sum() and not is_set[~hit].any()
    assert angles_deg(got[is_set], expected[is_set])[front < -0.5].max() < 3


@pytest.mark.parametrize('reach', [1, 2, 3])
def test_no_normal_across_a_depth_edge_or_beside_a_hole(reach):
    depth = np.full((30, 40), 2.0, np.float32)
    depth[:, 20:] = 3.0
    depth[15, 8] = np.nan
    got = normals(pointmap_from_depth(depth, K), reach_px=reach)
    across = np.abs(np.arange(40) - 19.5) < reach + 1
    hole = np.zeros(depth.shape, bool)
    hole[15 - reach:16 + reach, 8 - reach:9 + reach] = True
    np.testing.assert_array_equal(~got.any(axis=2), hole | across)
    np.testing.assert_allclose(got[got.any(axis=2)], np.tile([0, 0, -1.0], (
        int(got.any(axis=2).sum()), 1)), atol=1e-4)


def test_noise_moves_normals_little():
    depth = noisy(plane([0.2, 0.3, 1.0], 3.0), 0.002)
    expected = -np.array([0.2, 0.3, 1.0]) / np.linalg.norm([0.2, 0.3, 1.0])
    for reach, limit_deg in ((2, 4.0), (3, 2.0)):
        got = normals(pointmap_from_depth(depth, K), reach_px=reach)
        is_set = got.any(axis=2)
        assert is_set.mean() > 0.95
        assert np.median(angles_deg(got[is_set], expected)) < limit_deg
        np.testing.assert_allclose(np.linalg.norm(got[is_set], axis=1), 1, atol=1e-5)


def test_misuse_of_normals():
    with pytest.raises(ValueError, match='local_points'):
        normals(np.ones((4, 4)))
    with pytest.raises(ValueError, match='reach_px'):
        normals(np.ones((4, 4, 3)), reach_px=0)
    assert not normals(np.full((4, 4, 3), np.nan)).any()


def test_single_pixels_are_judged_as_in_the_whole_map():
    depth, defined = film('indoor', 1)[0].depth, None
    rng = np.random.default_rng(0)
    depth = (depth * np.exp(0.02 * rng.standard_normal(depth.shape))).astype(np.float32)
    depth[rng.random(depth.shape) < 0.05] *= np.float32(0.7)
    defined = rng.random(depth.shape) < 0.98
    whole = floating(depth[None], defined[None])[0].ravel()
    pixels = rng.choice(depth.size, 3000, replace=False)
    # the whole map asks only where inverse depth differs enough at all
    found = floating_at(depth, defined, pixels)
    assert whole[pixels].any() and not (whole[pixels] & ~found).any()
    assert (found & ~whole[pixels]).mean() < 1e-3
    assert not floating_at(depth, defined, pixels[:0]).size
