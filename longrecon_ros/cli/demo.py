"""Show everything at work: a synthetic drive through the live ROS node, start to report.

A car drives round a block of houses; its camera is recorded in a bag with the true poses. The
node is started in a process of its own and the bag is played to it over DDS. DIR gets
trajectory.txt, map.ply, result.json and report.html; the bag stays in DIR/recording and is filmed
anew only when other options ask for another one.

examples:
  longrecon demo
  longrecon demo --scene indoor --seed 3 --out out/indoor
  longrecon demo --rate 1 --domain 0
"""

import argparse
import importlib.util
import logging
import os
from pathlib import Path
import shlex
import shutil
import sys

from ..atomic import check_output_folder
from ..config import default_path
from ..errors import InputError, MissingDependency
from ..synthetic.effects import Effects
from ..synthetic.recipe import Recipe
from ..synthetic.recording import ensure_bag
from . import replay, run
from .progress import show_progress

_log = logging.getLogger(__name__)

_SIZE, _FPS = (480, 360), 10.0
_SPEEDS_MPS = {'street': 6.0, 'indoor': 0.8, 'eight': 1.4}
_LAPS = {'street': 260, 'indoor': 289, 'eight': 293}        # frames, at these speeds
_EFFECTS = Effects(noise=2.0, exposure=0.2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('-o', '--out', metavar='DIR', type=Path, default=Path('out/demo'),
                        help='folder for the results (default: %(default)s)')
    parser.add_argument('--scene', choices=tuple(_LAPS), default='street',
                        help='world (default: %(default)s)')
    parser.add_argument('--frames', metavar='N', type=int,
                        help='images (default: one lap)')
    parser.add_argument('--seed', metavar='S', type=int, default=0,
                        help='another seed is another world (default: %(default)s)')
    parser.add_argument('--rate', metavar='R', type=float,
                        help='at most R times real time (default: as fast as it is processed)')
    parser.add_argument('--domain', metavar='N', type=int,
                        help='ROS_DOMAIN_ID, to watch in rviz (default: one of its own)')
    parser.add_argument('--no-ros', action='store_true',
                        help='reconstruct without the ROS node')


def main(args: argparse.Namespace) -> int:
    """Film, replay, and say what came out and what to do next; return the exit code."""
    if not args.no_ros and importlib.util.find_spec('rclpy') is None:
        raise MissingDependency('the demo plays to a ROS 2 node, and there is no rclpy: source a '
                                'ROS 2 installation, run "make setup", or add --no-ros')
    bag = _film(args)
    words = [str(bag), '--out', str(args.out), '--force']
    if args.no_ros:
        verb = run
    else:
        verb = replay
        words += [f'--{name}={value}' for name, value in (('rate', args.rate),
                                                          ('domain', args.domain))
                  if value is not None]
    code = verb.main(_parse(verb, words))
    print(_next_steps())
    return code


def _film(args: argparse.Namespace) -> Path:
    """Return the recording, filmed now or before."""
    bag = args.out / 'recording'
    if args.out.is_dir() and any(args.out.iterdir()) and not bag.is_dir():
        raise InputError(f'{args.out} holds files that are not of a demo: choose another --out')
    check_output_folder(args.out, force=True)
    n_frames = _LAPS[args.scene] if args.frames is None else args.frames
    recipe = Recipe(args.scene, n_frames, _SIZE, _FPS, args.seed, _SPEEDS_MPS[args.scene],
                    effects=_EFFECTS)
    with show_progress(n_frames) as progress:
        is_new = ensure_bag(bag, recipe, lambda n: progress.update(n, 'filmed'))
    _log.info('%s %s', bag, 'is filmed' if is_new else 'is there already')
    return bag


def _parse(verb, words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return parser.parse_args(words)


def _next_steps() -> str:
    longrecon = _program()
    rviz = _shortest(default_path().parent.parent / 'rviz' / 'longrecon.rviz')
    return '\n'.join([
        '',
        'next:',
        f'  your own video      {longrecon} run video.mp4 --out out/video',
        f'  your own bag        {longrecon} replay drive.mcap --out out/drive',
        f'  another world       {longrecon} demo --scene indoor --out out/indoor',
        f'  watch it in rviz    rviz2 -d {rviz}, and in another terminal',
        f'                      {longrecon} demo --rate 1 --domain 0'])


def _program() -> str:
    """Return how the user can call this program from here."""
    called = Path(sys.argv[0])
    if not os.access(called, os.X_OK) or called.name != 'longrecon':
        return 'longrecon'
    found = shutil.which('longrecon')
    is_on_path = found is not None and os.path.samefile(found, called)
    return 'longrecon' if is_on_path else _shortest(called)


def _shortest(path: Path) -> str:
    """Return a path for the shell: from here if it is below, else from the root."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path.absolute()) if relative.startswith(os.pardir) else relative)
