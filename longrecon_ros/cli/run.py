"""Reconstruct a video, a folder of images or a ROS bag: trajectory, map and a page about them.

INPUT is a video file, a folder of images (with timestamps.txt, calib.json, gt_tum.txt and depth/
if there are any), or a bag of ROS 1 (.bag) or ROS 2 (folder, .mcap, .db3).

DIR gets trajectory.txt (TUM, camera to map), map.ply, result.json and report.html, all at once at
the end: a run that fails or is interrupted with Ctrl-C leaves nothing, but for scal3r, which sees
the whole recording at once: what it has reached is in DIR.work, and --resume goes on. Lengths are
in odom units, as one camera does not know the scale; with ground truth the figures are in metres.

examples:
  longrecon run video.mp4 --out out/video
  longrecon run images/ --out out/images --fps 15
  longrecon run drive.mcap --topic /camera/image_raw --out out/drive
  longrecon run clip/ --out out/clip --set window.size=12 --max-frames 100
"""

import argparse
from dataclasses import replace
import logging
from pathlib import Path

from .. import backbones
from ..atomic import check_output_folder
from ..config import Config, load, parse_override
from ..io.source import FrameSource, open_source
from ..io.trajectory_file import is_kitti, read_trajectory
from ..map_store import load_map, save_map
from ..nets.launched import rank_and_size
from ..overlap import Overlapped
from ..pipeline import Pipeline
from ..results import RunRecord, write_run
from ..types import Trajectory
from .outcome import print_outcome, print_profile
from .reconstruct import Outcome, reconstruct, reconstruct_all
from .tables import print_facts
from .timeline import print_timeline
from .whole import check_processes, hush_others, kept_work

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('input', metavar='INPUT', type=Path, help='video, folder of images or bag')
    parser.add_argument('-o', '--out', metavar='DIR', type=Path, required=True,
                        help='folder for the results')
    parser.add_argument('--force', action='store_true',
                        help='replace the result files in DIR if there are any')
    parser.add_argument('--no-report', action='store_true', help='leave out report.html')
    parser.add_argument('--timeline', action='store_true',
                        help='show when the last windows were inferred and registered')
    parser.add_argument('--profile', action='store_true',
                        help='show what each stage takes, ms a frame')
    parser.add_argument('--resume', action='store_true',
                        help='go on with an interrupted run (of scal3r in lock step)')
    parser.add_argument('--map', metavar='MAP_DIR', type=Path,
                        help='go on in this map (of "longrecon map save")')
    parser.add_argument('--mode', choices=('mapping', 'localization'), default='mapping',
                        help='mapping: what is new goes into MAP_DIR; localization: it stays as '
                             'it is (default: %(default)s)')
    parser.add_argument('--no-map', action='store_true', help='leave out the folder map')
    add_config_arguments(parser)
    frames = parser.add_argument_group('frames')
    frames.add_argument('--topic', metavar='T', help='image topic of a bag')
    frames.add_argument('--fps', metavar='F', type=float,
                        help='frames a second of a folder without times, or of a video')
    frames.add_argument('--every', metavar='N', type=parse_count, default=1,
                        help='take every N-th frame (default: every one)')
    frames.add_argument('--max-frames', metavar='N', type=parse_count, help='stop after N frames')
    frames.add_argument('--calib', metavar='FILE', type=Path,
                        help='calib.json (fx fy cx cy dist) that goes before what INPUT says')
    frames.add_argument('--allow-truncated', action='store_true',
                        help='use what there is of a video or bag that breaks off')
    truth = parser.add_argument_group('ground truth')
    truth.add_argument('--gt', metavar='FILE', type=Path,
                       help='true trajectory (TUM or KITTI, camera to world, m)')
    truth.add_argument('--gt-topic', metavar='T', help='topic of a bag with the true poses')


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that make a `Config`; see `config_of`."""
    group = parser.add_argument_group('method')
    group.add_argument('--config', metavar='FILE', type=Path,
                       help='parameters (YAML) that differ from the defaults')
    group.add_argument('--set', metavar='KEY=VALUE', action='append', default=[],
                       help='one parameter, for example window.size=12; may be repeated')


def config_of(args: argparse.Namespace) -> Config:
    """Return the configuration that was asked for; raises ``ConfigError``."""
    return load(args.config, dict(parse_override(text) for text in args.set))


def main(args: argparse.Namespace) -> int:
    """Reconstruct, write the results, and say what came out; return the exit code."""
    hush_others()
    check_output_folder(args.out, args.force)
    config = config_of(args)
    base = load_map(args.map) if args.map else None
    pipeline = Overlapped(Pipeline.from_config(config, base=base,
                                               is_mapping=args.mode == 'mapping'),
                          config.pipeline.use_thread)
    check_processes(pipeline, args.resume)
    spec = backbones.load(config.backbone).spec
    source = open_source(args.input, topic=args.topic, gt_topic=args.gt_topic, fps=args.fps,
                         every=args.every, max_frames=args.max_frames, calib=args.calib,
                         allow_truncated=args.allow_truncated, use_truth=spec.needs_truth)
    groundtruth = read_trajectory(args.gt) if args.gt else source.groundtruth()
    _log.info('%s', source.describe())
    if not pipeline.needs_all:
        with pipeline:
            outcome = reconstruct(source, pipeline)
        return _finish(args, config, source, groundtruth, pipeline, outcome)
    with kept_work(args.out, args.resume, args.force) as folder:
        with pipeline:
            outcome = reconstruct_all(source, pipeline, folder)
        if rank_and_size()[0]:
            return 0                        # the process of rank 0 has it all
        return _finish(args, config, source, groundtruth, pipeline, outcome)


def _finish(args: argparse.Namespace, config: Config, source: FrameSource,
            groundtruth: Trajectory | None, pipeline: Overlapped, outcome: Outcome) -> int:
    """Write the results of a run that has ended, and say what came out."""
    spec = backbones.load(config.backbone).spec
    warnings = [*source.warnings, *outcome.warnings, *pipeline.caveats]
    if args.map and not pipeline.is_located:
        warnings.append(f'The place was not found in {args.map}: poses are in a frame of their '
                        'own.')
    if args.gt and is_kitti(args.gt):
        groundtruth = _with_times(groundtruth, pipeline.trajectory())
        if groundtruth is None:
            warnings.append(f'{args.gt} has no times, and not one pose a frame: nothing was '
                            'compared with it.')
    summary = write_run(args.out, RunRecord(
        source=source.describe(), config=config, n_frames=outcome.n_frames,
        trajectory=pipeline.trajectory(), states=pipeline.states(), cloud=pipeline.cloud(),
        odometry=pipeline.odometry(), loops=pipeline.loops(),
        saved_map=None if args.no_map or args.map else pipeline.saved_map(),
        statistics=outcome.recorder.statistics(), elapsed_s=outcome.elapsed_s,
        is_metric=spec.scale == 'metric', is_simulated=spec.needs_truth,
        is_untrained=pipeline.is_untrained,
        groundtruth=groundtruth, warnings=tuple(warnings)),
        use_report=not args.no_report, force=args.force)
    print_outcome(summary, args.out, not args.no_report)
    if args.map and args.mode == 'mapping':
        save_map(args.map, *pipeline.saved_map())
        print_facts([('map', f'{args.map} has it all now')])
    if args.profile:
        print_profile(summary)
    if args.timeline:
        print_timeline(summary['timeline'])
    return 0


def _with_times(truth: Trajectory, estimate: Trajectory) -> Trajectory | None:
    """Return a truth without times with those of the frames; None if their numbers differ."""
    if len(truth) != len(estimate):
        return None
    return replace(truth, stamps_ns=estimate.stamps_ns)


def parse_count(text: str) -> int:
    """Return a whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number above 0, got {text!r}')
    return int(text)
