"""Measure speed on this machine as ratios, which hold when the machine is busy or slow.

`bench sfm INPUT...` runs a backbone on the frames of each input and, frame by frame in turn, SIFT
(`cv2.SIFT_create().detectAndCompute`) on the same images; it prints the time of the whole
pipeline (tracking, windows, dense depth, alignment and map) over that of SIFT. Reading the
images is not counted. `bench growth` streams laps of a synthetic street through the pipeline and
prints, block by block, the time of a frame over that in the first block, the memory in use, and
what a backbone says of its state: all should stay flat. `bench align` measures alignment with a
scale for every depth layer on simulated predictions: the time of a new frame over that of one
`skimage.segmentation.felzenszwalb(depth, 300, 1.1, 500)` on the same map, and time and memory over
a stream of many windows. `bench nets` measures the networks, `bench stream` one that takes frames
one by one, `bench lockstep` compares the forms of scal3r, `bench node` watches the live node; they
have options of their own, see `longrecon bench nets --help`.

examples:
  longrecon bench sfm clips/a clips/b
  longrecon bench growth --max-frames 5000
  longrecon bench align --windows 1000
"""

import argparse
from pathlib import Path
import time

import cv2
import numpy as np

from .. import backbones
from ..config import Config
from ..errors import ConfigError
from ..io.source import open_source
from ..memory import resident_mb
from ..pipeline import Pipeline
from ..synthetic.recipe import Production, Recipe
from .bench_align import bench_align
from .progress import show_progress
from .run import add_config_arguments, config_of
from .synth import parse_size
from .tables import print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('what', metavar='WHAT',
                        help='growth, align, nets, stream, lockstep, or a backbone (sfm)')
    parser.add_argument('inputs', metavar='INPUT', type=Path, nargs='*',
                        help='folders, videos or bags for a backbone')
    parser.add_argument('--max-frames', metavar='N', type=int, help='stop after N frames')
    parser.add_argument('--repeat', metavar='N', type=int, default=1, help='runs of each input')
    parser.add_argument('--block', metavar='N', type=int, default=500,
                        help='frames a row of growth (default: %(default)s)')
    parser.add_argument('--size', metavar='WxH', type=parse_size, default=(320, 240),
                        help='of the images of growth, px (default: 320x240)')
    parser.add_argument('--windows', metavar='N', type=int, default=100,
                        help='windows of align (default: %(default)s)')
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure and print one table."""
    config = config_of(args)
    if args.what == 'growth':
        _growth(config, args.max_frames or 5000, args.block, args.size)
        return 0
    if args.what == 'align':
        bench_align(config, args.windows)
        return 0
    if args.what in ('nets', 'stream', 'lockstep', 'node'):
        raise ConfigError(f'bench {args.what}: its options come after the two words')
    if args.what not in backbones.available():
        raise ConfigError(f'bench {args.what}: choose growth, align, nets, stream, lockstep '
                          f'or one of: {", ".join(backbones.available())}')
    if not args.inputs:
        raise ConfigError(f'bench {args.what}: give at least one INPUT')
    rows = [_against_sift(config, path, args.max_frames)
            for path in args.inputs for _ in range(args.repeat)]
    print_table(('input', 'size', 'frames', 'ms/frame', 'SIFT ms', 'ratio'), rows)
    return 0


def _against_sift(config: Config, path: Path, max_frames: int | None) -> tuple[str, ...]:
    needs_truth = backbones.load(config.backbone).spec.needs_truth
    frames = list(open_source(path, max_frames=max_frames, use_truth=needs_truth))
    pipeline, sift = Pipeline.from_config(config), cv2.SIFT_create()
    sift.detectAndCompute(cv2.cvtColor(frames[0].image, cv2.COLOR_RGB2GRAY), None)  # warm up
    spent_s = np.zeros(2)
    for frame in frames:
        start = time.perf_counter()
        sift.detectAndCompute(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), None)
        middle = time.perf_counter()
        pipeline.push(frame)
        spent_s += middle - start, time.perf_counter() - middle
    start = time.perf_counter()
    pipeline.flush()
    spent_s[1] += time.perf_counter() - start
    baseline_ms, ours_ms = 1e3 * spent_s / len(frames)
    width, height = frames[0].size
    return (path.name, f'{width}x{height}', str(len(frames)), f'{ours_ms:.1f}',
            f'{baseline_ms:.1f}', f'{ours_ms / baseline_ms:.2f}')


def _growth(config: Config, n_frames: int, block: int, size: tuple[int, int]) -> None:
    film = Production.of(Recipe('street', None, size)).film
    needs_truth = backbones.load(config.backbone).spec.needs_truth
    pipeline = Pipeline.from_config(config)
    rows, first_ms, spent_s, figures = [], None, 0.0, {}
    with show_progress(n_frames) as progress:
        for i in range(n_frames):
            frame = film.frame(i).to_frame(needs_truth)
            start = time.perf_counter()
            pipeline.push(frame)
            spent_s += time.perf_counter() - start
            if (i + 1) % block == 0:
                ms = 1e3 * spent_s / block
                first_ms, spent_s = first_ms or ms, 0.0
                map_now = pipeline.mapper.atlas.status()
                figures = {'map MB': map_now.n_bytes / 1e6, 'submaps': map_now.n_submaps,
                           'on disk': map_now.n_on_disk, **pipeline.state_figures()}
                rows.append((str(i + 1), f'{ms:.1f}', f'{ms / first_ms:.2f}',
                             f'{resident_mb():.0f}', *(f'{v:.4g}' for v in figures.values())))
            progress.update(i + 1, f'{resident_mb():.0f} MB')
    print_table(('frames', 'ms/frame', 'ratio', 'MB', *figures), rows)
    pipeline.close()
