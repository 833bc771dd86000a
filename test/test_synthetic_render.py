"""The renderer: exact depth, consistent images, no cracks, distortion."""

import cv2
import numpy as np
import pytest

from longrecon_ros.geometry import se3
from longrecon_ros.geometry.camera import pointmap_from_depth, project
from longrecon_ros.synthetic.atlas import Atlas
from longrecon_ros.synthetic.camera import distort, SyntheticCamera, undistort
from longrecon_ros.synthetic.materials import bricks, plain
from longrecon_ros.synthetic.motion import level_pose
from longrecon_ros.synthetic.render import Renderer
from longrecon_ros.synthetic.scene import Quad, Scene, SceneBuilder
from longrecon_ros.synthetic.stream import Film
from longrecon_ros.synthetic.worlds import make_world

ROOM_LOW, ROOM_HIGH = np.array([-3.0, -2.0, 0.0]), np.array([3.0, 2.0, 2.5])
BOX_LOW, BOX_HIGH = np.array([0.5, -0.4, 0.0]), np.array([1.1, 0.5, 0.9])
CAMERA = SyntheticCamera.from_fov(160, 120, 80.0)


@pytest.fixture(scope='module')
def room() -> Scene:
    """Build a closed room with one box in it."""
    builder = SceneBuilder(3, 0.02)
    paint = bricks((180, 140, 110))
    (x0, y0, z0), (x1, y1, z1) = ROOM_LOW, ROOM_HIGH
    for start, end in (((x0, y1), (x1, y1)), ((x1, y1), (x1, y0)), ((x1, y0), (x0, y0)),
                       ((x0, y0), (x0, y1))):
        builder.wall(start, end, z0, z1, paint)
    builder.floor(x0, y0, x1, y1, z0, plain((120, 130, 140)))
    builder.floor(x0, y0, x1, y1, z1, plain((210, 210, 200)), faces_up=False)
    center = (*((BOX_LOW + BOX_HIGH) / 2)[:2], 0.0)
    builder.box(center, BOX_HIGH - BOX_LOW, plain((60, 120, 90)))
    return builder.build()


def poses(n: int, seed: int = 0) -> list:
    """Return poses inside the room, clear of the box, looking anywhere."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        T = level_pose(rng.uniform(-2.5, 0), rng.uniform(-1.5, 1.5), rng.uniform(0.4, 2.0),
                       rng.uniform(0, 2 * np.pi))
        found.append(T @ se3.from_parts(se3.so3_exp(rng.normal(0, 0.3, 3)), np.zeros(3)))
    return found


def slab_depth(T_world_camera: np.ndarray, camera: SyntheticCamera) -> np.ndarray:
    """Depth of the room by the slab method: independent of planes and homographies."""
    x, y = np.broadcast_arrays(*camera.rays())
    direction = np.stack([x, y, np.ones_like(x)], -1) @ T_world_camera[:3, :3].T
    origin = T_world_camera[:3, 3]
    leave = np.maximum((ROOM_LOW - origin) / direction, (ROOM_HIGH - origin) / direction).min(-1)
    a, b = (BOX_LOW - origin) / direction, (BOX_HIGH - origin) / direction
    enter, out = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
    return np.where((enter < out) & (enter > 0), enter, leave)


def test_depth_is_the_analytic_depth(room):
    renderer = Renderer(room, CAMERA)
    for T in poses(12):
        depth, expected = renderer.render(T).depth, slab_depth(T, CAMERA)
        wrong = np.abs(depth / expected - 1) > 2e-5
        assert wrong.mean() < 1e-3, 'only silhouette pixels may fall to the other side'


def test_a_closed_room_has_no_cracks(room):
    camera = SyntheticCamera.from_fov(64, 48, 100.0)
    renderer = Renderer(room, camera)
    for T in poses(40, seed=1):
        assert (renderer.render(T).depth > 0).all()


def test_nothing_seen_gives_background_and_no_depth(room):
    outside = level_pose(10.0, 0.0, 1.0, 0.0)
    rendering = Renderer(room, CAMERA).render(outside)
    assert (rendering.depth == 0).all()
    assert (rendering.color == np.float32(room.background)).all()


def test_backdrop_has_colour_but_no_depth():
    texture = np.full((8, 8, 3), 77, np.uint8)
    sky = Quad(np.array([-50, 20, 50]), np.array([100, 0, 0]), np.array([0, 0, -100]), texture,
               is_backdrop=True)
    rendering = Renderer(Scene((sky,)), CAMERA).render(level_pose(0, 0, 0, np.pi / 2))
    assert (rendering.depth == 0).all()
    np.testing.assert_allclose(rendering.color, 77)
    assert (Renderer(Scene((sky,)), CAMERA).depth(level_pose(0, 0, 0, -np.pi / 2)) == 0).all()


def test_texture_lies_where_the_corners_are():
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[0, 0], texture[0, 1], texture[1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    wall = Quad(np.array([-1, 2, 1]), np.array([2, 0, 0]), np.array([0, 0, -2]), texture)
    color = Renderer(Scene((wall,)), CAMERA).render(level_pose(0, 0, 0, np.pi / 2)).color
    left, right, top, bottom = 55, 105, 35, 85
    assert color[top, left].argmax() == 0 and color[top, left, 0] > 200
    assert color[top, right].argmax() == 1 and color[top, right, 1] > 200
    assert color[bottom, left].argmax() == 2 and color[bottom, left, 2] > 200
    assert color[bottom, right].max() < 60


def test_rectangles_are_seen_from_the_front_only():
    texture = np.full((4, 4, 3), 200, np.uint8)
    wall = Quad(np.array([-1, 2, 1]), np.array([2, 0, 0]), np.array([0, 0, -2]), texture)
    behind = level_pose(0, 4, 0, -np.pi / 2)
    assert (Renderer(Scene((wall,)), CAMERA).render(behind).depth == 0).all()


def test_a_far_checkerboard_turns_grey_instead_of_aliasing():
    board = np.kron(np.indices((64, 64)).sum(0) % 2, np.ones((1, 1)))
    texture = np.repeat((255 * board).astype(np.uint8)[..., None], 3, 2)
    wall = Quad(np.array([-5, 60, 5]), np.array([10, 0, 0]), np.array([0, 0, -10]), texture)
    rendering = Renderer(Scene((wall,)), CAMERA).render(level_pose(0.3, 0, 0.2, np.pi / 2))
    inside = cv2.erode((rendering.depth > 0).astype(np.uint8), np.ones((5, 5))).astype(bool)
    assert inside.sum() > 100
    assert rendering.color[inside].std() < 12
    assert abs(rendering.color[inside].mean() - 127.5) < 5


def test_atlas_samples_texel_centres_exactly():
    rng = np.random.default_rng(0)
    textures = [rng.integers(0, 256, shape, np.uint8) for shape in ((5, 9, 3), (16, 4, 3))]
    atlas = Atlas(textures)
    for i, texture in enumerate(textures):
        h, w = texture.shape[:2]
        row, col = (v.ravel() for v in np.mgrid[0:h, 0:w])
        s, t = col + 0.5 - w / 2, row + 0.5 - h / 2
        n = h * w
        zero = np.zeros(n, np.float32)
        got = atlas.sample(np.full(n, i), s.astype(np.float32), t.astype(np.float32), zero, zero,
                           1, zero)
        np.testing.assert_allclose(got.reshape(texture.shape), texture, atol=1)


def reprojection(first, second):
    """Return where pixels of one frame are in another, (H, W, 2), and their depth there."""
    points = se3.apply(se3.relative(second.T_world_camera, first.T_world_camera),
                       pointmap_from_depth(first.depth, first.K).reshape(-1, 3))
    pixels = project(points, first.K).reshape(*first.depth.shape, 2)
    return pixels.astype(np.float32), points[:, 2].reshape(first.depth.shape)


@pytest.mark.parametrize('name, index', [('indoor', 40), ('street', 150), ('eight', 90)])
def test_images_agree_under_depth_and_pose(name, index):
    world = make_world(name, seed=2)
    film = Film(world.scene, world.motion, SyntheticCamera.from_fov(320, 240))
    first, second = film.frame(index), film.frame(index + 1)
    place, depth = reprojection(first, second)
    seen = cv2.remap(second.depth, place, None, cv2.INTER_NEAREST)
    visible = (first.depth > 0) & (np.abs(seen - depth) < 0.01 * depth)
    assert visible.mean() > 0.5
    warped = cv2.remap(second.image.astype(np.float32), place, None, cv2.INTER_LINEAR)
    assert np.abs(warped - first.image)[visible].mean() < 3.0

    grey = [cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    corners = cv2.goodFeaturesToTrack(grey[0], 300, 0.001, 6, blockSize=5)
    col, row = np.rint(corners[:, 0]).astype(int).T
    tracked, _, _ = cv2.calcOpticalFlowPyrLK(*grey, corners, None, winSize=(15, 15), maxLevel=3)
    flow = place[row, col] - np.stack([col, row], 1)
    error = np.linalg.norm(tracked[:, 0] - corners[:, 0] - flow, axis=1)[visible[row, col]]
    assert len(error) > 100
    assert np.median(error) < 0.1


def test_distorted_camera_sees_the_scene_where_opencv_projects_it(room):
    distortion = np.array([-0.28, 0.09, 0.001, -0.0008, -0.01])
    camera = SyntheticCamera.from_fov(160, 120, 80.0, distortion)
    T = poses(1, seed=5)[0]
    depth = Renderer(room, camera).render(T).depth
    assert np.mean(np.abs(depth / slab_depth(T, camera) - 1) > 2e-5) < 2e-3
    x, y = camera.rays()
    points = np.stack([x * depth, y * depth, depth], -1).reshape(-1, 3)
    pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K, distortion)
    v, u = np.mgrid[0:120, 0:160]
    np.testing.assert_allclose(pixels[:, 0], np.stack([u, v], -1).reshape(-1, 2), atol=1e-6)


def test_undistort_inverts_distort():
    x, y = np.meshgrid(np.linspace(-0.6, 0.6, 9), np.linspace(-0.5, 0.5, 7))
    distortion = np.array([0.2624, -0.9531, -0.0054, 0.0026, 1.1633])
    xd, yd = distort(x, y, distortion)
    back = undistort(xd, yd, distortion)
    np.testing.assert_allclose(back, (x, y), atol=1e-10)


def test_distortion_that_folds_over_is_refused():
    camera = SyntheticCamera.from_fov(160, 120, 100.0, np.array([-0.9, 0, 0, 0]))
    with pytest.raises(ValueError, match='folds over'):
        camera.rays()


def test_impossible_cameras_are_refused():
    with pytest.raises(ValueError, match='16x16'):
        SyntheticCamera.from_fov(8, 120)
    with pytest.raises(ValueError, match='K'):
        SyntheticCamera(64, 48, np.zeros((3, 3)))
    with pytest.raises(ValueError, match='distortion'):
        SyntheticCamera.from_fov(64, 48, distortion=np.zeros(3))


def test_rectangles_without_area_or_right_angles_are_refused():
    texture = np.zeros((2, 2, 3), np.uint8)
    skewed = Quad(np.zeros(3), np.array([1.0, 0, 0]), np.array([0.5, 1, 0]), texture)
    with pytest.raises(ValueError, match='right angles'):
        Renderer(Scene((skewed,)), CAMERA)
    with pytest.raises(ValueError, match='at least one'):
        Renderer(Scene(()), CAMERA)
