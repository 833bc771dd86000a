"""`bench align`: what alignment with layers costs, as a ratio, and over a long stream."""

from collections.abc import Iterator
import time

import numpy as np

from ..alignment import LayerwiseConfig, make_aligner
from ..alignment.intrinsics import SharedIntrinsics
from ..backbones.simulated import SimulatedBackbone
from ..chain import Chain
from ..config import build, Config
from ..errors import MissingDependency
from ..memory import resident_mb
from ..synthetic.recipe import Production, Recipe
from ..synthetic.stream import Film
from ..types import Frame, FrameTruth, Prediction, Window
from ..windowing import Windower
from .progress import show_progress
from .tables import print_table

_SIZE, _SMALL = (518, 294), (182, 98)
_N_WINDOW, _N_OVERLAP = 20, 5
_FELZENSZWALB = {'scale': 300, 'sigma': 1.1, 'min_size': 500}       # of LASER's code


def bench_align(config: Config, n_windows: int) -> None:
    """Print cost over that of scikit-image's segmentation, then cost and memory over a stream."""
    layerwise = build(LayerwiseConfig, config.layerwise)
    print_table(('size', 'method', 'ms/new frame', 'felzenszwalb ms', 'ratio'),
                _against_felzenszwalb(layerwise))
    print()
    print_table(('windows', 'ms/new frame', 'ratio', 'MB'), _over_time(layerwise, n_windows))


def _against_felzenszwalb(layerwise: LayerwiseConfig) -> list[tuple[str, ...]]:
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError:
        raise MissingDependency('bench align compares with scikit-image: '
                                'pip install scikit-image') from None
    windows = list(_windows(_SIZE, 4))
    methods = {'Sim(3)': make_aligner('sim3'), 'Sim(3)+layers': make_aligner('sim3', layerwise)}
    chains = {name: Chain(aligner, 'window', SharedIntrinsics())
              for name, aligner in methods.items()}
    for chain in chains.values():
        chain.add(*windows[0])
    spent_s, baseline_s, n_new = dict.fromkeys(methods, 0.0), [], 0
    for window, prediction in windows[1:]:
        for name, chain in chains.items():
            start = time.perf_counter()
            chain.add(window, prediction)
            spent_s[name] += time.perf_counter() - start
        for depth in prediction.depth[_N_OVERLAP::5]:
            start = time.perf_counter()
            felzenszwalb(depth, **_FELZENSZWALB)
            baseline_s.append(time.perf_counter() - start)
        n_new += len(window.frames) - window.n_overlap
    baseline_ms = 1e3 * float(np.median(baseline_s))
    return [(f'{_SIZE[0]}x{_SIZE[1]}', name, f'{1e3 * s / n_new:.1f}', f'{baseline_ms:.1f}',
             f'{1e3 * s / n_new / baseline_ms:.3f}') for name, s in spent_s.items()]


def _over_time(layerwise: LayerwiseConfig, n_windows: int) -> list[tuple[str, ...]]:
    """Return cost and memory at tenths of a stream of small images."""
    chain = Chain(make_aligner('sim3', layerwise), 'window', SharedIntrinsics())
    block, rows, spent_s, n_new, first_ms = max(1, n_windows // 10), [], 0.0, 0, None
    with show_progress(n_windows) as progress:
        for n, (window, prediction) in enumerate(_windows(_SMALL, n_windows), 1):
            start = time.perf_counter()
            chain.add(window, prediction)
            if n > 1:               # the first has nothing to be aligned with
                spent_s += time.perf_counter() - start
                n_new += len(window.frames) - window.n_overlap
            if n % block == 0 and n_new:
                ms = 1e3 * spent_s / n_new
                first_ms, spent_s, n_new = first_ms or ms, 0.0, 0
                rows.append((str(n), f'{ms:.2f}', f'{ms / first_ms:.2f}', f'{resident_mb():.0f}'))
            progress.update(n, 'windows')
    return rows


def _windows(size: tuple[int, int], n_windows: int) -> Iterator[tuple[Window, Prediction]]:
    """Yield windows of laps through a synthetic street with their simulated predictions."""
    backbone, state = SimulatedBackbone(), 0
    windower = Windower(_N_WINDOW, _N_OVERLAP)
    film = Production.of(Recipe('street', None, size, 10.0)).film
    n, index = 0, 0
    while n < n_windows:
        window = windower.push(_frame(film, index))
        index += 1
        if window is not None:
            state, prediction = backbone.step(state, window)
            yield window, prediction
            n += 1


def _frame(film: Film, index: int) -> Frame:
    """Return a frame with its truth and no picture: alignment does not look at it."""
    camera = film.camera
    truth = FrameTruth(film.depth(index), film.pose(index))
    image = np.zeros((camera.height, camera.width, 3), np.uint8)
    return Frame(index, film.stamp_ns(index), image, camera.K, truth=truth)
