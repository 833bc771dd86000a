"""Play a bag through the live ROS node, over DDS, and keep what the node makes of it.

The node runs in its own process, as on a robot, and gets images, camera_info and transforms as
topics. By default no image is lost: the bag waits for the node. DIR gets the same files as with
"longrecon run". A ROS domain of its own keeps other nodes out; --domain lets you watch in rviz.

examples:
  longrecon replay drive.mcap --out out/drive
  longrecon replay drive/ --topic /camera/image_raw --out out/drive --set window.size=12
  longrecon replay drive.mcap --out out/live --rate 1 --live --domain 0
"""

import argparse
import logging
from pathlib import Path
from types import ModuleType

from ..atomic import check_output_folder
from ..errors import InputError, MissingDependency
from ..io.bag_reader import is_bag
from ..io.source import open_source
from .outcome import print_outcome
from .progress import show_progress
from .run import add_config_arguments, config_of

_log = logging.getLogger(__name__)
_MAX_DOMAIN = 232


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('bag', metavar='BAG', type=Path, help='bag of ROS 1 or ROS 2')
    parser.add_argument('-o', '--out', metavar='DIR', type=Path, required=True,
                        help='folder for the results')
    parser.add_argument('--force', action='store_true',
                        help='replace the result files in DIR if there are any')
    parser.add_argument('--topic', metavar='T', help='image topic')
    parser.add_argument('--gt-topic', metavar='T', help='topic with the true poses')
    parser.add_argument('--rate', metavar='R', type=float,
                        help='at most R times real time (default: as fast as it is processed)')
    parser.add_argument('--live', action='store_true',
                        help='do not wait for the node: what it cannot take in time is dropped')
    parser.add_argument('--domain', metavar='N', type=int,
                        help='ROS_DOMAIN_ID (default: one of its own)')
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Play the bag and say what came out; return the exit code."""
    check_output_folder(args.out, args.force)
    _check(args)
    config = config_of(args)
    source = open_source(args.bag, topic=args.topic, gt_topic=args.gt_topic)
    run = _import_ros()
    replay = run.Replay(
        bag=args.bag, topics=run.find_topics(args.bag, args.topic), config=config,
        source=f'{source.describe()}, through the ROS node', groundtruth=source.groundtruth(),
        rate=args.rate, is_live=args.live, domain=args.domain)
    _log.info('%s', replay.source)
    with show_progress(replay.topics.n_images) as progress:
        summary = run.run_replay(replay, args.out, progress)
    print_outcome(summary, args.out)
    return 0


def _check(args: argparse.Namespace) -> None:
    if not args.bag.exists():
        raise InputError(f'{args.bag}: there is no such file or folder')
    if not is_bag(args.bag):
        raise InputError(f'{args.bag}: not a bag (.bag, .mcap, .db3 or folder); "longrecon run" '
                         'takes videos and folders of images')
    if args.rate is not None and not args.rate > 0:
        raise InputError(f'--rate must be above 0, got {args.rate:g}')
    if args.live and args.rate is None:
        args.rate = 1.0
    if args.domain is not None and not 0 <= args.domain <= _MAX_DOMAIN:
        raise InputError(f'--domain must be 0 to {_MAX_DOMAIN}, got {args.domain}')


def _import_ros() -> ModuleType:
    """Return the module of the replay; MissingDependency without ROS."""
    try:
        from ..ros import replay
    except ImportError as error:
        raise MissingDependency(f'replay needs ROS 2 ({error}): source an installation, or run '
                                '"make setup", which takes it from wheels') from None
    return replay
