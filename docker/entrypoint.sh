#!/bin/bash
# Runs a command with the ROS of the image and the built package.
set -e
# the set-up files of ROS read variables that may be unset
source "/opt/ros/${ROS_DISTRO}/setup.bash"
source /opt/longrecon/ws/install/setup.bash
exec "$@"
