"""The section ``node`` of the configuration, and how a part of it changes while the node runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..parameter_list import RANGES


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The section ``node``; config/default.yaml says what each one does."""

    autostart: bool
    image_transport: Literal['raw', 'compressed']
    image_qos: Literal['auto', 'reliable', 'best_effort']
    queue_policy: Literal['latest', 'keep_all']
    queue_size: int
    latency_budget_s: float
    calibration_wait_s: float
    gap_s: float
    map_frame: str
    odom_frame: str
    base_frame: str
    tf_mode: Literal['full', 'odom', 'map_odom', 'none']
    tf_rate_hz: float
    tf_tolerance_s: float
    use_extrinsic: Literal['auto', 'require', 'none']
    extrinsic_wait_s: float
    slew_s: float
    cloud_points: int
    cloud_period_s: float
    tile_points: int
    path_poses: int
    path_period_s: float
    grid_resolution_m: float
    status_period_s: float
    save_folder: str
    maps_folder: str
    map_name: str
    source: str
    groundtruth_file: str
    worker_python: str
    worker_timeout_s: float
    worker_deaths: int
    worker_memory_mb: float
    warm_up: bool

    def __post_init__(self):
        for name in self.__slots__:
            low, high = RANGES.get(f'node.{name}', (None, None))
            if low is not None and not low <= getattr(self, name) <= high:
                raise ValueError(f'{name}: expected {low} to {high}, got {getattr(self, name)}')
        frames = [self.map_frame, self.odom_frame, self.base_frame]
        for name, frame in zip(('map_frame', 'odom_frame', 'base_frame'), frames):
            if not frame or frame.startswith('/') or frames.count(frame) > 1:
                raise ValueError(f'{name}: expected a frame of its own without a leading slash, '
                                 f'got {frame!r}')
        for name in ('save_folder', 'maps_folder'):
            if not getattr(self, name):
                raise ValueError(f'{name}: expected a folder, got nothing')


class Live:
    """Holds the configuration of now: who uses it reads ``config`` anew each time."""

    def __init__(self, config: NodeConfig):
        self.config = config


def map_folder(config: NodeConfig, name: str) -> Path:
    """Return the folder of a map inside ``maps_folder``.

    Raises InputError for a name that leads out of it: an absolute path, ``..``, a link.
    """
    if not name:
        raise InputError('node.map_name is empty: set it to the name of the map')
    base = Path(config.maps_folder).expanduser().absolute()
    wanted = Path(name)
    if wanted.is_absolute() or '..' in wanted.parts or name.startswith('~'):
        raise InputError(f'node.map_name: {name!r} leads out of {base} (node.maps_folder); give a '
                         'name inside of it')
    folder = base / wanted
    root = base.resolve()
    if folder.resolve() != root / wanted or root not in (root / wanted).parents:
        raise InputError(f'node.map_name: {name!r} is, or goes through, a link out of {base}; '
                         'give the folder itself')
    return folder
