"""The ROS 2 side; nothing outside this folder imports rclpy or a message package."""
