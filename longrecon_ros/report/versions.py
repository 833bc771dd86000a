"""What is installed, for reports and for `longrecon info`."""

from importlib import metadata
import os
import platform

from .. import __version__

REQUIRED = ('numpy', 'scipy', 'opencv', 'PyYAML')
OPTIONAL = ('rosbags', 'rich', 'torch', 'safetensors', 'huggingface_hub', 'rclpy')

_DISTRIBUTIONS = {
    'opencv': ('opencv-python-headless', 'opencv-python', 'opencv-contrib-python',
               'opencv-contrib-python-headless'),
    'rclpy': ('rclpy', 'ros-rclpy')}


def versions() -> dict[str, str | None]:
    """Return name to version of this package, Python, the machine and the dependencies.

    Optional dependencies that are not installed have None. Nothing is imported for it.
    """
    found: dict[str, str | None] = {
        'longrecon_ros': __version__, 'python': platform.python_version(),
        'system': f'{platform.system()} {platform.machine()}, {os.cpu_count()} cores'}
    for name in REQUIRED + OPTIONAL:
        found[name] = _version(name)
    found['ROS'] = os.environ.get('ROS_DISTRO') or (found['rclpy'] and 'from wheels')
    return found


def _version(name: str) -> str | None:
    for distribution in _DISTRIBUTIONS.get(name, (name,)):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None
