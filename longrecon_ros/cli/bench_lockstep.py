"""Compare the forms of scal3r on one recording: lock step, our causal one, and without a memory.

In lock step every window recalls from all; in the causal form (live) from itself and those before
it; "alone" gives each window a memory of its own. Differences are to lock step, over the frames of
a window: "depth" is the median of |ln of the ratio| of depths once their median ratio is taken
out (alignment does that), "turn" the median angle between rotations. "missed" is the difference of
the causal form over that of windows alone, in depth: 0 where it is as good as lock step, 1 where
the past is of no use. Times are of the backbone. With random weights (UNTRAINED) these show what
the arithmetic does, not what a trained net makes of it.

examples:
  longrecon bench lockstep --set scal3r.size=tiny --set scal3r.weights=random
  longrecon bench lockstep clip/ --frames 300 --set window.size=60 --set window.overlap=30
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
import tempfile
import time

import numpy as np

from .. import backbones
from ..backbones.base import LockstepBackbone, Work
from ..config import build, load, parse_override
from ..errors import InputError
from ..io.source import open_source
from ..preprocess import Preprocessor
from ..synthetic.recipe import Production, Recipe
from ..types import Frame, Prediction, Window
from ..windowing import Windower
from .progress import show_progress
from .run import add_config_arguments, parse_count
from .tables import print_facts, print_table

_BLOCKS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('input', metavar='INPUT', type=Path, nargs='?',
                        help='video, folder of images or bag (default: a synthetic room)')
    parser.add_argument('--frames', metavar='N', type=parse_count, default=120,
                        help='(default: %(default)s)')
    parser.add_argument('--work', metavar='DIR', type=Path,
                        help='folder for what does not fit into memory (default: a temporary one)')
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Measure, and print a table."""
    overrides = {'backbone': 'scal3r', **dict(parse_override(text) for text in args.set)}
    config = load(args.config, overrides)
    chosen = backbones.load(config.backbone)
    backbone: LockstepBackbone = chosen(build(chosen.Config, config.backbone_options))
    windows = _windows(backbone, _frames(args.input, args.frames), config.window.size,
                       config.window.overlap)
    n_frames = sum(len(window.frames) for window in windows)
    # what torch does for the first time is not timed
    backbone.step(backbone.init(), windows[0])
    alone, alone_s = _timed(lambda: [backbone.step(backbone.init(), window)[1]
                                     for window in windows])
    causal, causal_s = _timed(lambda: _live(backbone, windows))
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        exact, exact_s = _timed(lambda: _exact(backbone, windows, Path(folder)))
        n_bytes = sum(path.stat().st_size for path in Path(folder).iterdir())
    width, height = windows[0].frames[0].size
    print_facts([('net', f'scal3r{", UNTRAINED" * backbone.is_untrained}, {width}x{height} px'),
                 ('windows', f'{len(windows)}, of {n_frames / len(windows):.3g} frames'),
                 ('ms a frame', f'lock step {1e3 * exact_s / n_frames:.1f}, causal '
                                f'{1e3 * causal_s / n_frames:.1f} ({exact_s / causal_s:.2f} '
                                f'times), alone {1e3 * alone_s / n_frames:.1f}'),
                 ('on disk', f'{n_bytes / 1e6:.1f} MB')])
    print()
    print_table(('windows', 'causal: depth', 'turn deg', 'alone: depth', 'turn deg', 'missed'),
                _rows(exact, causal, alone))
    return 0


def _frames(path: Path | None, n: int) -> Iterable[Frame]:
    if path is not None:
        return open_source(path, max_frames=n)
    film = Production.of(Recipe('indoor', None, (320, 240))).film
    return (film.frame(i).to_frame() for i in range(n))


def _windows(backbone: LockstepBackbone, frames: Iterable[Frame], size: int,
             overlap: int) -> list[Window]:
    prepare, windower = Preprocessor.of(backbone.spec), Windower(size, overlap)
    found = [*(windower.push(prepare(frame)) for frame in frames), windower.flush()]
    windows = [window for window in found if window is not None]
    if not windows:
        raise InputError('bench lockstep: there are no frames; give another INPUT')
    return windows


def _timed(call):
    start_s = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start_s


def _live(backbone: LockstepBackbone, windows: Sequence[Window]) -> list[Prediction]:
    state, predictions = backbone.init(), []
    for window in windows:
        state, prediction = backbone.step(state, window)
        predictions.append(prediction)
    return predictions


def _exact(backbone: LockstepBackbone, windows: Sequence[Window],
           folder: Path) -> list[Prediction]:
    with show_progress(0, 'steps') as progress:
        work = Work(folder, 'bench', lambda n, of: progress.update(n, f'of {of}'))
        return list(backbone.predict_all(windows, work))


def _rows(exact: Sequence[Prediction], causal: Sequence[Prediction],
          alone: Sequence[Prediction]) -> list[tuple[str, ...]]:
    rows = []
    for part in np.array_split(np.arange(len(exact)), min(_BLOCKS, len(exact))):
        live, own = (np.median([_difference(exact[k], other[k]) for k in part], axis=0)
                     for other in (causal, alone))
        rows.append((f'{part[0]} to {part[-1]}', f'{live[0]:.2e}', f'{live[1]:.3f}',
                     f'{own[0]:.2e}', f'{own[1]:.3f}', f'{live[0] / max(own[0], 1e-12):.2f}'))
    return rows


def _difference(a: Prediction, b: Prediction) -> tuple[float, float]:
    """Return how far depths and rotations (deg) of two predictions of a window are apart."""
    is_good = (a.confidence > 0) & (b.confidence > 0)
    if not is_good.any():
        return float('nan'), float('nan')
    ratio = np.log(a.depth[is_good] / b.depth[is_good])
    R = np.einsum('nji,njk->nik', a.T_window_camera[:, :3, :3], b.T_window_camera[:, :3, :3])
    cosine = np.clip((np.trace(R, axis1=1, axis2=2) - 1) / 2, -1, 1)
    return (float(np.median(np.abs(ratio - np.median(ratio)))),
            float(np.degrees(np.median(np.arccos(cosine)))))
