"""Reconstruct a video, a folder of images or a ROS bag: trajectory, map and a page about them.

INPUT is a video file, a folder of images (with timestamps.txt, calib.json, gt_tum.txt and depth/
if there are any), or a bag of ROS 1 (.bag) or ROS 2 (folder, .mcap, .db3).

DIR gets trajectory.txt (TUM, camera to map), map.ply, result.json and report.html, all at once at
the end: a run that fails or is interrupted with Ctrl-C leaves nothing. Lengths are in odom units,
as one camera does not know the scale; with ground truth the figures are in metres.

examples:
  longrecon run video.mp4 --out out/video
  longrecon run images/ --out out/images --fps 15
  longrecon run drive.mcap --topic /camera/image_raw --out out/drive
  longrecon run clip/ --out out/clip --set window.size=12 --max-frames 100
"""

import argparse
from dataclasses import dataclass, replace
import logging
from pathlib import Path
import time

from .. import backbones
from ..atomic import check_output_folder
from ..config import Config, load, parse_override
from ..errors import InputError
from ..io.source import FrameSource, open_source
from ..io.trajectory_file import is_kitti, read_trajectory
from ..overlap import Overlapped
from ..pipeline import Pipeline
from ..preprocess import fit_depth
from ..results import RunRecord, RunRecorder, write_run
from ..types import Frame, Trajectory
from .outcome import print_outcome
from .progress import Progress, show_progress
from .timeline import print_timeline

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
    check_output_folder(args.out, args.force)
    config = config_of(args)
    pipeline = Overlapped(Pipeline.from_config(config), config.pipeline.use_thread)
    spec = backbones.load(config.backbone).spec
    source = open_source(args.input, topic=args.topic, gt_topic=args.gt_topic, fps=args.fps,
                         every=args.every, max_frames=args.max_frames, calib=args.calib,
                         allow_truncated=args.allow_truncated, use_truth=spec.needs_truth)
    groundtruth = read_trajectory(args.gt) if args.gt else source.groundtruth()
    _log.info('%s', source.describe())
    with pipeline, show_progress(len(source)) as progress:
        outcome = reconstruct(source, pipeline, progress)
    warnings = [*source.warnings, *outcome.warnings]
    if args.gt and is_kitti(args.gt):
        groundtruth = _with_times(groundtruth, pipeline.trajectory())
        if groundtruth is None:
            warnings.append(f'{args.gt} has no times, and not one pose a frame: nothing was '
                            'compared with it.')
    summary = write_run(args.out, RunRecord(
        source=source.describe(), config=config, n_frames=outcome.n_frames,
        trajectory=pipeline.trajectory(), states=pipeline.states(), cloud=pipeline.cloud(),
        statistics=outcome.recorder.statistics(), elapsed_s=outcome.elapsed_s,
        is_metric=spec.scale == 'metric', is_simulated=spec.needs_truth,
        is_untrained=pipeline.is_untrained,
        groundtruth=groundtruth, warnings=tuple(warnings)),
        use_report=not args.no_report, force=args.force)
    print_outcome(summary, args.out, not args.no_report)
    if args.timeline:
        print_timeline(summary['timeline'])
    return 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `reconstruct` counted."""

    recorder: RunRecorder
    n_frames: int
    elapsed_s: float                        # reading and reconstructing, not measuring depth
    warnings: tuple[str, ...]


def reconstruct(source: FrameSource, pipeline: Overlapped, progress: Progress) -> Outcome:
    """Push all frames of a source through a pipeline, recording every update.

    Raises ``InputError`` from the source, and when there was no frame.
    """
    first: list[Frame] = []
    recorder = RunRecorder(lambda index, size: _true_depth(source, first[0], index, size))
    n_frames, frames = 0, iter(source)
    while True:
        start_s = time.perf_counter()
        with pipeline.busy:
            frame = next(frames, None)
        recorder.add_time('read', 1e3 * (time.perf_counter() - start_s))
        updates = pipeline.flush() if frame is None else pipeline.push(frame)
        for update in updates:
            recorder.add(update)
        if frame is None:
            break
        n_frames += 1
        first = first or [replace(frame)]
        if updates:
            progress.update(n_frames, f'{n_frames / pipeline.busy.total_s:.1f} a second')
    if not n_frames:
        raise InputError(f'{source.describe()}: there are no frames')
    warnings = () if first[0].K is not None else (
        'There is no calibration: the intrinsics are estimated, and lens distortion stays. Give '
        'them with --calib.',)
    return Outcome(recorder, n_frames, pipeline.busy.total_s, warnings)


def _true_depth(source: FrameSource, frame: Frame, index: int, size: tuple[int, int]):
    depth = source.depth(index)
    return None if depth is None else fit_depth(depth, frame, size)


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
