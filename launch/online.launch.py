"""The SLAM node on a live camera, with rviz on demand.

ros2 launch longrecon_ros online.launch.py image:=/camera/image_raw rviz:=true

An argument left empty leaves its parameter to params_file, and that to config/default.yaml.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

SHARE = Path(__file__).resolve().parent.parent

ARGUMENTS = [
    DeclareLaunchArgument(
        'image', default_value='image', description='Topic of the images, without /compressed.'),
    DeclareLaunchArgument(
        'camera_info', default_value='',
        description='Topic of the calibration; empty: camera_info beside the images.'),
    DeclareLaunchArgument(
        'wheel_odometry', default_value='',
        description='Topic of odometry in metres (nav_msgs/Odometry), for the scale.'),
    DeclareLaunchArgument(
        'depth', default_value='',
        description='Topic of depth images that fit the images, for the scale.'),
    DeclareLaunchArgument(
        'image_transport', default_value='', choices=['', 'raw', 'compressed'],
        description='Take the raw images, or those on <image>/compressed.'),
    DeclareLaunchArgument(
        'qos', default_value='', choices=['', 'auto', 'reliable', 'best_effort'],
        description='Reliability of the image subscription; auto: what the publisher offers.'),
    DeclareLaunchArgument(
        'backbone', default_value='', description='What predicts the geometry of a window.'),
    DeclareLaunchArgument(
        'worker_python', default_value='',
        description='Python that runs the backbone, of a virtual environment with torch.'),
    DeclareLaunchArgument(
        'scale_source', default_value='',
        choices=['', 'none', 'wheel', 'depth', 'height', 'metric', 'constant'],
        description='What tells how long a metre is: wheel odometry, depth images, the height of '
                    'the camera, the backbone itself (metric), a constant, or nothing.'),
    DeclareLaunchArgument(
        'camera_height', default_value='',
        description='Height of the camera above the floor, m, for scale_source:=height.'),
    DeclareLaunchArgument(
        'tf_mode', default_value='', choices=['', 'full', 'odom', 'map_odom', 'none'],
        description='Transforms sent: full (map -> odom -> base), odom (odom -> base), '
                    'map_odom (odom -> base comes from another node), none.'),
    DeclareLaunchArgument(
        'map_frame', default_value='', description='Frame of the map; it may jump.'),
    DeclareLaunchArgument(
        'odom_frame', default_value='', description='Frame of the odometry; it is continuous.'),
    DeclareLaunchArgument(
        'base_frame', default_value='',
        description='Frame of the robot, x forward, y left, z up.'),
    DeclareLaunchArgument(
        'tile_frames', default_value='false', choices=['true', 'false'],
        description='Send the poses of the map tiles on /tf_static, so that rviz can show tiles.'),
    DeclareLaunchArgument(
        'use_namespaced_tf', default_value='false', choices=['true', 'false'],
        description='Use tf and tf_static in the namespace: one tree for each robot.'),
    DeclareLaunchArgument(
        'maps_folder', default_value='', description='Folder where maps are saved by name.'),
    DeclareLaunchArgument(
        'map_name', default_value='', description='Name of the map to save or to load.'),
    DeclareLaunchArgument(
        'params_file', default_value='',
        description='Parameters (YAML, ROS form, $(env X) allowed); only what differs.'),
    DeclareLaunchArgument(
        'autostart', default_value='', choices=['', 'true', 'false'],
        description='The node configures and activates itself; false: a lifecycle manager does.'),
    DeclareLaunchArgument(
        'respawn', default_value='false', choices=['true', 'false'],
        description='Start the node again when it ends by itself.'),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the node and its topics.'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=['true', 'false'],
        description='Take the time from /clock: true for recordings and simulators.'),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'],
        description='Open rviz with map, path, odometry and transforms.'),
    DeclareLaunchArgument(
        'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error'],
        description='Least severity of the messages that the node prints.'),
    DeclareLaunchArgument(
        'fastdds_profile', default_value=str(SHARE / 'config' / 'fastdds.xml'),
        description='Fast DDS profile with shared memory for big messages.'),
]

PARAMETERS = {
    'image_transport': ('node.image_transport', str),
    'qos': ('node.image_qos', str),
    'backbone': ('backbone', str),
    'worker_python': ('node.worker_python', str),
    'scale_source': ('scale.source', str),
    'camera_height': ('scale.camera_height_m', float),
    'tf_mode': ('node.tf_mode', str),
    'map_frame': ('node.map_frame', str),
    'odom_frame': ('node.odom_frame', str),
    'base_frame': ('node.base_frame', str),
    'maps_folder': ('node.maps_folder', str),
    'map_name': ('node.map_name', str),
    'autostart': ('node.autostart', bool),
}
TOPICS = ('image', 'camera_info', 'wheel_odometry', 'depth')


def make_nodes(context):
    """Return the node and, if wanted, rviz; the arguments are known now."""
    value = context.launch_configurations.get
    nodes = [LifecycleNode(
        package='longrecon_ros', executable='slam_node', name='longrecon',
        namespace=value('namespace'), output='screen', emulate_tty=True,
        respawn=value('respawn') == 'true', respawn_delay=2.0, remappings=node_remaps(value),
        arguments=['--ros-args', '--log-level', value('log_level')],
        parameters=parameters(value))]
    if value('rviz') == 'true':
        nodes.append(Node(
            package='rviz2', executable='rviz2', name='rviz2', namespace=value('namespace'),
            output='log', remappings=tf_remaps(value),
            arguments=['-d', str(SHARE / 'rviz' / 'longrecon.rviz')],
            parameters=[{'use_sim_time': value('use_sim_time') == 'true'}]))
    return nodes


def parameters(value):
    """Return the parameter file, if there is one, and above it what the arguments say."""
    given = {name: (value(argument), kind) for argument, (name, kind) in PARAMETERS.items()
             if value(argument)}
    layer = {name: ParameterValue(text, value_type=kind) for name, (text, kind) in given.items()}
    layer['use_sim_time'] = value('use_sim_time') == 'true'
    if not value('params_file'):
        return [layer]
    return [ParameterFile(value('params_file'), allow_substs=True), layer]


def node_remaps(value):
    """Return the remappings of the node: topics that are given, tiles, and tf."""
    remaps = [(name, value(name)) for name in TOPICS if value(name)]
    if value('tile_frames') == 'true':
        is_own = value('use_namespaced_tf') == 'true'
        remaps.append(('~/tile_poses', 'tf_static' if is_own else '/tf_static'))
    return remaps + tf_remaps(value)


def tf_remaps(value):
    """Return the remappings that move the transforms into the namespace."""
    if value('use_namespaced_tf') != 'true':
        return []
    return [('/tf', 'tf'), ('/tf_static', 'tf_static')]


def generate_launch_description():
    """Return the node and rviz."""
    profile = SetEnvironmentVariable('FASTRTPS_DEFAULT_PROFILES_FILE',
                                     LaunchConfiguration('fastdds_profile'))
    return LaunchDescription([*ARGUMENTS, profile, OpaqueFunction(function=make_nodes)])
