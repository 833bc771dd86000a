r"""An example: the SLAM node on a robot whose navigation or mapping uses what it publishes.

ros2 launch longrecon_ros robot_example.launch.py image:=/camera/image_raw \
    scale_source:=height camera_height:=0.32 consumer:=nav2

The camera's driver runs already. Nav2 plans on ~/grid, with ~/odometry and our transforms, without
AMCL and map_server; rtabmap takes our odometry and a depth camera, and sends map -> odom itself.
Both think in metres: without a source of scale nothing is started.
"""

from pathlib import Path
import tempfile

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
import yaml

SHARE = Path(__file__).resolve().parent.parent

ARGUMENTS = [
    DeclareLaunchArgument(
        'consumer', default_value='nav2', choices=['nav2', 'rtabmap', 'none'],
        description='What uses the output: nav2 (grid, odometry), rtabmap (odometry), none.'),
    DeclareLaunchArgument(
        'image', default_value='/camera/image_raw',
        description='Topic of the images, without /compressed.'),
    DeclareLaunchArgument(
        'camera_info', default_value='/camera/camera_info',
        description='Topic of the calibration of the images.'),
    DeclareLaunchArgument(
        'depth', default_value='',
        description='Topic of depth images that fit the images; rtabmap needs it.'),
    DeclareLaunchArgument(
        'wheel_odometry', default_value='',
        description='Topic of odometry in metres (nav_msgs/Odometry), for the scale.'),
    DeclareLaunchArgument(
        'scale_source', default_value='none',
        choices=['none', 'wheel', 'depth', 'height', 'metric', 'constant'],
        description='What tells how long a metre is: wheel odometry, depth images, the height of '
                    'the camera, the backbone itself (metric), a constant, or nothing.'),
    DeclareLaunchArgument(
        'camera_height', default_value='',
        description='Height of the camera above the floor, m, for scale_source:=height.'),
    DeclareLaunchArgument(
        'tf_mode', default_value='', choices=['', 'full', 'odom', 'map_odom', 'none'],
        description='Transforms sent; empty: full, odom with rtabmap; map_odom where '
                    'robot_localization sends odom -> base.'),
    DeclareLaunchArgument(
        'base_frame', default_value='base_link',
        description='Frame of the robot, x forward, y left, z up.'),
    DeclareLaunchArgument(
        'camera_frame', default_value='',
        description='frame_id of the images (optical), to place it by camera_xyz and camera_rpy; '
                    'empty: the robot description does that.'),
    DeclareLaunchArgument(
        'camera_xyz', default_value='0.0 0.0 0.3',
        description='Position of the camera in base_frame, m.'),
    DeclareLaunchArgument(
        'camera_rpy', default_value='-1.5708 0.0 -1.5708',
        description='Orientation of the optical frame in base_frame, rad; as it is: forward.'),
    DeclareLaunchArgument(
        'params_file', default_value='',
        description='Parameters of the node (YAML, ROS form); only what differs.'),
    DeclareLaunchArgument(
        'nav2_params_file', default_value=str(SHARE / 'config' / 'nav2_example.yaml'),
        description="Parameters of Nav2; laid over those of nav2_bringup's own."),
    DeclareLaunchArgument(
        'manager', default_value='self', choices=['self', 'nav2'],
        description="What activates the node: itself, or a lifecycle manager of Nav2's."),
    DeclareLaunchArgument(
        'worker_python', default_value='',
        description='Python that runs the backbone, of a virtual environment with torch.'),
    DeclareLaunchArgument(
        'backbone', default_value='', description='What predicts the geometry of a window.'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=['true', 'false'],
        description='Take the time from /clock: true for simulators.'),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'],
        description='Open rviz with map, path, odometry and transforms.'),
]
PASSED_ON = ('image', 'camera_info', 'depth', 'wheel_odometry', 'scale_source', 'camera_height',
             'base_frame', 'params_file', 'worker_python', 'backbone', 'use_sim_time', 'rviz')


def make_all(context):
    """Return the node, the camera's place, and the consumer; RuntimeError when they do not fit."""
    value = context.launch_configurations.get
    check(value)
    consumer = {'nav2': make_nav2, 'rtabmap': make_rtabmap, 'none': lambda _: []}
    return [make_online(value), *make_mounting(value), *make_manager(value),
            *consumer[value('consumer')](value)]


def check(value):
    """Raise RuntimeError when the consumer could not work with what the node will publish."""
    consumer = value('consumer')
    if consumer != 'none' and value('scale_source') in ('', 'none'):
        raise RuntimeError(
            f'{consumer} thinks in metres, and one camera alone does not know how long a metre '
            'is: a robot would drive wrong distances, and ~/grid is not published. Give '
            'scale_source:=height camera_height:=..., wheel_odometry:=TOPIC with '
            'scale_source:=wheel, or another one of --show-args; or consumer:=none')
    if consumer == 'rtabmap' and not value('depth'):
        raise RuntimeError('rtabmap needs a depth camera that fits the images: give depth:=TOPIC')
    if consumer == 'rtabmap' and value('tf_mode') in ('full', 'map_odom'):
        raise RuntimeError('rtabmap sends map -> odom itself: tf_mode must be odom or none')


def make_online(value):
    """Return the node."""
    mode = value('tf_mode') or ('odom' if value('consumer') == 'rtabmap' else 'full')
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'online.launch.py')),
        launch_arguments={'tf_mode': mode,
                          'autostart': 'true' if value('manager') == 'self' else 'false',
                          **{name: LaunchConfiguration(name) for name in PASSED_ON}}.items())


def make_mounting(value):
    """Return the sender of base -> camera, where the robot's description has no camera."""
    if not value('camera_frame'):
        return []
    x, y, z = value('camera_xyz').split()
    roll, pitch, yaw = value('camera_rpy').split()
    return [Node(
        package='tf2_ros', executable='static_transform_publisher', name='camera_mounting',
        arguments=['--x', x, '--y', y, '--z', z, '--roll', roll, '--pitch', pitch, '--yaw', yaw,
                   '--frame-id', value('base_frame'), '--child-frame-id', value('camera_frame')])]


def make_manager(value):
    """Return a lifecycle manager for the node, if it is not to start by itself.

    A Python node has no bond, so the manager must not wait for one; loading a network takes longer
    than it waits by default.
    """
    if value('manager') == 'self':
        return []
    return [Node(
        package='nav2_lifecycle_manager', executable='lifecycle_manager',
        name='lifecycle_manager_longrecon', output='screen',
        parameters=[{'node_names': ['longrecon'], 'autostart': True, 'bond_timeout': 0.0,
                     'service_timeout': 120.0,
                     'use_sim_time': value('use_sim_time') == 'true'}])]


def make_nav2(value):
    """Return Nav2 without localisation: map -> odom -> base is ours."""
    from ament_index_python.packages import get_package_share_directory
    bringup = Path(get_package_share_directory('nav2_bringup'))
    base = yaml.safe_load((bringup / 'params' / 'nav2_params.yaml').read_text())
    over = yaml.safe_load(Path(value('nav2_params_file')).read_text())
    # nav2_bringup takes one file; ours holds what differs, so that it fits Humble and Jazzy
    with tempfile.NamedTemporaryFile('w', prefix='nav2_', suffix='.yaml', delete=False) as file:
        yaml.safe_dump(merged(base, over), file)
    return [IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(bringup / 'launch' / 'navigation_launch.py')),
        launch_arguments={'params_file': file.name, 'use_sim_time': value('use_sim_time'),
                          'autostart': 'true', 'use_composition': 'False'}.items())]


def merged(base, over):
    """Return a tree of parameters with those of another one laid over it; lists are replaced."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def make_rtabmap(value):
    """Return rtabmap on our odometry and a depth camera."""
    return [Node(
        package='rtabmap_slam', executable='rtabmap', name='rtabmap', output='screen',
        arguments=['--delete_db_on_start'],
        parameters=[{'frame_id': value('base_frame'), 'subscribe_rgb': True,
                     'subscribe_depth': True, 'approx_sync': True, 'publish_tf': True,
                     'use_sim_time': value('use_sim_time') == 'true'}],
        remappings=[('rgb/image', value('image')), ('rgb/camera_info', value('camera_info')),
                    ('depth/image', value('depth')), ('odom', '/longrecon/odometry')])]


def generate_launch_description():
    """Return the node, the place of the camera, and the consumer."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=make_all)])
