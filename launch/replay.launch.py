"""The SLAM node on a recording, played in real time with `ros2 bag play`, with rviz on demand.

ros2 launch longrecon_ros replay.launch.py bag:=drive rviz:=true

As on a robot, images that come too fast are dropped; `longrecon replay` waits for each. The node
stays when the recording ends: `ros2 service call /longrecon/save std_srvs/srv/Trigger` saves.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(__file__).resolve().parent.parent

ARGUMENTS = [
    DeclareLaunchArgument('bag', description='Recording of ROS 2: a folder, .mcap or .db3.'),
    DeclareLaunchArgument(
        'rate', default_value='1.0', description='Speed of the recording over real time.'),
    DeclareLaunchArgument(
        'delay', default_value='3.0',
        description='Time before the recording begins, s; longer for networks that load weights.'),
    DeclareLaunchArgument(
        'image', default_value='',
        description='Topic of the images, without /compressed; empty: the only camera there is.'),
    DeclareLaunchArgument(
        'camera_info', default_value='',
        description='Topic of the calibration; empty: the one in the bag that fits the images.'),
    DeclareLaunchArgument(
        'image_transport', default_value='', choices=['', 'raw', 'compressed'],
        description='Take the raw images, or those on <image>/compressed; empty: what there is.'),
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
        description='Transforms sent by the node; not those that the recording brings on /tf.'),
    DeclareLaunchArgument(
        'params_file', default_value='',
        description='Parameters (YAML, ROS form, $(env X) allowed); only what differs.'),
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
PASSED_ON = ('backbone', 'worker_python', 'scale_source', 'camera_height', 'tf_mode',
             'params_file', 'rviz', 'log_level', 'fastdds_profile')
CAMERA = ('image', 'camera_info', 'image_transport')


def make_online(context):
    """Return what online.launch.py starts, on the camera that the recording has."""
    given = {name: context.launch_configurations[name] for name in CAMERA}
    if not given['image']:
        given = find_camera(Path(context.launch_configurations['bag']), given)
    return [IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'online.launch.py')),
        launch_arguments={'use_sim_time': 'true', **given,
                          **{name: LaunchConfiguration(name) for name in PASSED_ON}}.items())]


def find_camera(bag, given):
    """Return the arguments of the only camera of a bag; RuntimeError when it is unclear.

    What is given already stays.
    """
    # here: listing the arguments must work without the package's own dependencies
    from longrecon_ros.errors import LongreconError
    from longrecon_ros.io.bag_reader import open_bag
    from longrecon_ros.io.bag_topics import choose_image_topic, find_info_topic, list_topics
    try:
        with open_bag(bag) as reader:
            topics = list_topics(reader)
        image = choose_image_topic(topics, None, bag)
    except LongreconError as error:
        problem = str(error).replace('--topic', 'image:=TOPIC')
        raise RuntimeError(f'no image topic was given, and none was found: {problem}') from None
    is_compressed = image.endswith('/compressed')
    return {'image': image.removesuffix('/compressed'),
            'camera_info': given['camera_info'] or find_info_topic(topics, image) or '',
            'image_transport': given['image_transport']
            or ('compressed' if is_compressed else 'raw')}


def generate_launch_description():
    """Return the player and what online.launch.py starts, on the time of the recording."""
    profile = SetEnvironmentVariable('FASTRTPS_DEFAULT_PROFILES_FILE',
                                     LaunchConfiguration('fastdds_profile'))
    player = ExecuteProcess(
        cmd=['ros2', 'bag', 'play', LaunchConfiguration('bag'), '--clock', '100',
             '--rate', LaunchConfiguration('rate'), '--delay', LaunchConfiguration('delay')],
        output='screen')
    return LaunchDescription([*ARGUMENTS, profile, OpaqueFunction(function=make_online), player])
