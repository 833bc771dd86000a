"""Streaming monocular dense SLAM for ROS 2: images in; odometry, TF and a coloured map out."""

__version__ = '0.1.0'
