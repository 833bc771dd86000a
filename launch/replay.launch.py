"""The SLAM node on a recording, played in real time with `ros2 bag play`, with rviz on demand.

ros2 launch longrecon_ros replay.launch.py bag:=drive image:=/camera/image_raw rviz:=true

As on a robot, images that come too fast are dropped; `longrecon replay` waits for each. The node
stays when the recording ends: `ros2 service call /longrecon/save std_srvs/srv/Trigger` saves.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
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
        'image', default_value='/camera/image_raw',
        description='Topic of the images in the recording, without /compressed.'),
    DeclareLaunchArgument(
        'camera_info', default_value='',
        description='Topic of the calibration; empty: camera_info beside the images.'),
    DeclareLaunchArgument(
        'image_transport', default_value='raw', choices=['raw', 'compressed'],
        description='Take the raw images, or those on <image>/compressed.'),
    DeclareLaunchArgument(
        'backbone', default_value='sfm', description='What predicts the geometry of a window.'),
    DeclareLaunchArgument(
        'params_file', default_value=str(SHARE / 'config' / 'default.yaml'),
        description='Parameters (YAML, ROS form); only what differs from the default.'),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'],
        description='Open rviz with map, path, odometry and transforms.'),
    DeclareLaunchArgument(
        'fastdds_profile', default_value=str(SHARE / 'config' / 'fastdds.xml'),
        description='Fast DDS profile with shared memory for big messages.'),
]
PASSED_ON = ('image', 'camera_info', 'image_transport', 'backbone', 'params_file', 'rviz',
             'fastdds_profile')


def generate_launch_description():
    """Return the player and what online.launch.py starts, on the time of the recording."""
    profile = SetEnvironmentVariable('FASTRTPS_DEFAULT_PROFILES_FILE',
                                     LaunchConfiguration('fastdds_profile'))
    online = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'online.launch.py')),
        launch_arguments={'use_sim_time': 'true',
                          **{name: LaunchConfiguration(name) for name in PASSED_ON}}.items())
    player = ExecuteProcess(
        cmd=['ros2', 'bag', 'play', LaunchConfiguration('bag'), '--clock',
             '--rate', LaunchConfiguration('rate')], output='screen')
    return LaunchDescription([*ARGUMENTS, profile, online, player])
