"""The environment of ROS processes that this package starts or becomes."""

from contextlib import contextmanager, ExitStack
import itertools
import os
import socket
import tempfile
from typing import Dict, Iterator, Mapping, Optional

from ..config import default_path
from ..errors import LongreconError

_N_DOMAINS = 101            # the ports of higher ones are not free on every system
_NAME = '\0longrecon_ros_domain_'      # of a socket in no folder: none can be left behind
_COUNTER = itertools.count()


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


@contextmanager
def own_domain(domain: Optional[int] = None) -> Iterator[int]:
    """Be in a ROS domain on this machine only, with the processes started meanwhile.

    By default it is one that nobody else has claimed by this function. The environment is what it
    was in the end. Yields the domain's number; raises LongreconError when all are taken.
    """
    with ExitStack() as stack:
        number = stack.enter_context(_claim()) if domain is None else domain
        added = {**ros_defaults(os.environ), **_local(number)}
        before = {name: os.environ.get(name) for name in added}
        stack.callback(_restore, before)
        os.environ.update(added)
        yield number


def _local(domain: int) -> Dict[str, str]:
    """Return variables for a ROS domain on this machine only."""
    found = {'ROS_DOMAIN_ID': str(domain)}
    if os.environ.get('ROS_DISTRO') == 'humble':
        found['ROS_LOCALHOST_ONLY'] = '1'
    else:
        found['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    return found


def _restore(before: Mapping[str, Optional[str]]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _claim() -> Iterator[int]:
    """Yield a domain that no other claim on this machine has; it ends with its process, too."""
    first = os.getpid() + next(_COUNTER)
    for domain in (1 + (first + n) % _N_DOMAINS for n in range(_N_DOMAINS)):
        with socket.socket(socket.AF_UNIX) as claim:
            try:
                claim.bind(f'{_NAME}{domain}')
            except OSError:
                continue
            yield domain
            return
    raise LongreconError(f'all {_N_DOMAINS} ROS domains are in use by replays and tests of this '
                         'machine: name one yourself (--domain of replay and demo)')
