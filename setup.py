from glob import glob
import sys

from setuptools import find_packages, setup

package_name = 'longrecon_ros'
share = 'share/' + package_name
data_files = [
    ('share/ament_index/resource_index/packages', ['resource/' + package_name]),
    (share, ['package.xml', 'LICENSE']),
    (share + '/config', glob('config/*')),
    (share + '/launch', glob('launch/*.launch.py')),
    (share + '/rviz', glob('rviz/*.rviz')),
    (share + '/foxglove', glob('foxglove/*.json')),
]
# `ros2 run` looks in lib/<package>. colcon puts the entry points there (setup.cfg), wheels ignore
# that setting and get plain scripts instead.
if 'bdist_wheel' in sys.argv:
    data_files.append(('lib/' + package_name, glob('scripts/*')))

# What is needed, required and optional, stands in setup.cfg.
setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test', 'test.*']),
    data_files=data_files,
    python_requires='>=3.10',       # here: colcon cannot read it from setup.cfg
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'longrecon = longrecon_ros.cli.main:main',
            'slam_node = longrecon_ros.ros.node:main',
        ],
    },
)
