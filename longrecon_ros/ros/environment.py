"""The environment of ROS processes that this package starts or becomes."""

import os
import tempfile
from typing import Dict, Mapping, Optional

from ..config import default_path


def ros_defaults(environment: Mapping[str, str]) -> Dict[str, str]:
    """Return what to add to an environment for a ROS process of ours.

    A place for its log where there is no home, and shared memory for big messages. What the
    user has set stays.
    """
    found = {}
    if not {'HOME', 'ROS_HOME', 'ROS_LOG_DIR'} & set(environment):
        found['ROS_LOG_DIR'] = tempfile.gettempdir()        # rclpy insists on one of them
    profile = default_path().with_name('fastdds.xml')
    if not {'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'} & set(environment) \
            and profile.exists():
        found['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(profile)
    return found


def local_domain(environment: Mapping[str, str], domain: Optional[int] = None) -> Dict[str, str]:
    """Return variables for a ROS domain on this machine only; by default one of our own.

    101 is the last domain whose ports are free on every system.
    """
    found = {'ROS_DOMAIN_ID': str(1 + os.getpid() % 101 if domain is None else domain)}
    if environment.get('ROS_DISTRO') == 'humble':
        found['ROS_LOCALHOST_ONLY'] = '1'
    else:
        found['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    return found
