"""The SLAM node on a live camera, with rviz on demand.

ros2 launch longrecon_ros online.launch.py image:=/camera/image_raw rviz:=true
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(__file__).resolve().parent.parent

ARGUMENTS = [
    DeclareLaunchArgument(
        'image', default_value='image', description='Topic of the images, without /compressed.'),
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


def make_node(context):
    """Return the node; camera_info is remapped only when it is given."""
    value = context.launch_configurations.get
    remaps = [('image', value('image'))]
    if value('camera_info'):
        remaps.append(('camera_info', value('camera_info')))
    return [Node(
        package='longrecon_ros', executable='slam_node', name='longrecon',
        namespace=value('namespace'), output='screen', remappings=remaps,
        arguments=['--ros-args', '--log-level', value('log_level')],
        parameters=[value('params_file'), {
            'backbone': value('backbone'),
            'node.image_transport': value('image_transport'),
            'use_sim_time': value('use_sim_time') == 'true'}])]


def generate_launch_description():
    """Return the node and rviz."""
    rviz = Node(
        package='rviz2', executable='rviz2', name='rviz2', output='log',
        namespace=LaunchConfiguration('namespace'),
        arguments=['-d', str(SHARE / 'rviz' / 'longrecon.rviz')],
        parameters=[{'use_sim_time': LaunchConfiguration('use_sim_time')}],
        condition=IfCondition(LaunchConfiguration('rviz')))
    profile = SetEnvironmentVariable('FASTRTPS_DEFAULT_PROFILES_FILE',
                                     LaunchConfiguration('fastdds_profile'))
    return LaunchDescription([*ARGUMENTS, profile, OpaqueFunction(function=make_node), rviz])
