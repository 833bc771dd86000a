"""Compare ways to align windows: none, SE(3), Sim(3), and Sim(3) with a scale for every layer.

The backbone runs once, and every variant chains the same predictions. INPUT is a folder with true
depth and poses (depth/, gt_tum.txt), or synth:SCENE for a synthetic world (synth:street, ...).
The backbone is "simulated" unless --set or --config names another one: its predictions are made
from the truth, with the faults of networks, so that the comparison needs no weights; its windows
have 10 frames and share 7, unless window.size and window.overlap say otherwise. The Sim(3) is that
of --set align=..., or the one that suits the backbone.

DIR gets ablation.md (the table), ablation.json (everything) and ablation.png (what the layers
mend, in one frame and over all). Errors are against the truth, in metres.

examples:
  longrecon ablate synth:street --out out/ablation
  longrecon ablate clip/ --out out/clip --seeds 5 --max-frames 200
  longrecon ablate clip/ --out out/clip --set backbone=sfm --every 2
"""

import argparse
from dataclasses import replace
import json
import logging
import math
from pathlib import Path
from types import MappingProxyType

from .. import backbones
from ..alignment import LayerwiseConfig, make_aligner
from ..atomic import atomic_folder, check_output_folder, write_text
from ..config import build, Config, load, parse_override
from ..errors import ConfigError, InputError
from ..evaluation.ablation import Ablation, AblationResult
from ..evaluation.variant_run import Variant
from ..io.source import FrameSource, open_source, SelectedFrames
from ..io.truth import TrueFrames
from ..report.ablation_picture import write_picture
from ..report.ablation_table import (
    AblationRecord,
    as_dict,
    as_markdown,
    gain_sentence,
    header,
    means,
    ranges,
    rows,
)
from ..report.findings import SIMULATED
from ..synthetic.recipe import Production, Recipe
from ..synthetic.stream import SyntheticSource
from .progress import Progress, show_progress
from .run import add_config_arguments, parse_count
from .synth import parse_size
from .tables import print_facts, print_table

_SYNTHETIC = 'synth:'
_LAYERWISE = LayerwiseConfig()
_SIMILARITIES = ('sim3', 'sim3_points', 'depth_ratio')
_WINDOW = MappingProxyType({'window.size': 10, 'window.overlap': 7})
_SIZE, _N_FRAMES, _FPS = (518, 294), 160, 10.0

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('input', metavar='INPUT',
                        help='folder with depth/ and gt_tum.txt, or synth:SCENE')
    parser.add_argument('-o', '--out', metavar='DIR', type=Path, required=True,
                        help='folder for the results')
    parser.add_argument('--force', action='store_true',
                        help='replace the result files in DIR if there are any')
    parser.add_argument('--seeds', metavar='N', type=parse_count,
                        help='repeat with the simulated faults of seeds 0 to N-1')
    parser.add_argument('--original', action='store_true',
                        help='also run the layers exactly as published (needs scikit-image)')
    add_config_arguments(parser)
    frames = parser.add_argument_group('frames')
    frames.add_argument('--every', metavar='N', type=parse_count, default=1,
                        help='take every N-th frame (default: every one)')
    frames.add_argument('--max-frames', metavar='N', type=parse_count, help='stop after N frames')
    world = parser.add_argument_group('synthetic world')
    world.add_argument('--frames', metavar='N', type=parse_count,
                       help=f'images (default: {_N_FRAMES})')
    world.add_argument('--size', metavar='WxH', type=parse_size,
                       help=f'image size, px (default: {_SIZE[0]}x{_SIZE[1]})')


def main(args: argparse.Namespace) -> int:
    """Compare, write the results, print the table; return the exit code."""
    check_output_folder(args.out, args.force)
    configs = _configs(args)
    is_simulated = backbones.load(configs[0].backbone).spec.needs_truth
    source = _source(args)
    if is_simulated:
        _log.warning('%s', SIMULATED)
    _log.info('%s', source.describe())
    runs = []
    with show_progress(len(configs) * len(source)) as progress:
        for config in configs:
            runs.append(_compare(source, config, args.original, progress, len(runs)))
    record = AblationRecord(source.describe(), configs[0], is_simulated, tuple(runs),
                            tuple(range(args.seeds)) if args.seeds else ())
    _write(args.out, record, args.force)
    _print(record, args.out)
    return 0


def variants_of(similarity: str = 'sim3', layerwise: LayerwiseConfig = _LAYERWISE,
                use_original: bool = False) -> tuple[Variant, ...]:
    """Return what is compared, from nothing to everything.

    ``similarity`` is the name of the aligner that fits a Sim(3); ``use_original`` adds LASER's
    code as published, `LayerwiseConfig.faithful`.
    """
    name = 'Sim(3)' if similarity == 'sim3' else f'Sim(3) {similarity}'
    variants = (
        Variant('none', 'none', lambda: make_aligner('camera')),
        # without limits: a window that is refused would get its scale from the depths after all
        Variant('se3', 'SE(3)', lambda: make_aligner('se3', max_spread=math.inf,
                                                     max_centre_error=math.inf)),
        Variant('sim3', name, lambda: make_aligner(similarity)),
        Variant('layers', f'{name}+layers',
                lambda: make_aligner(similarity, layerwise)))
    original = Variant(
        'published', 'Sim(3)+layers, as published',
        lambda: make_aligner('sim3', replace(layerwise, faithful=True)))
    return (*variants, original) if use_original else variants


def _similarity(config: Config) -> str:
    """Return the Sim(3) aligner that was asked for, or that suits the backbone."""
    align = backbones.load(config.backbone).spec.align if config.align == 'auto' else config.align
    return align if align in _SIMILARITIES else 'sim3'


def _configs(args: argparse.Namespace) -> list[Config]:
    """Return one configuration a run."""
    overrides = dict(parse_override(text) for text in args.set)
    config, usual = load(args.config, overrides), load()
    if 'backbone' not in overrides and config.backbone == usual.backbone:
        overrides = {'backbone': 'simulated', **overrides}
        if config.window == usual.window:
            overrides = {**_WINDOW, **overrides}
        config = load(args.config, overrides)
    if args.seeds is None:
        return [config]
    if config.backbone != 'simulated':
        raise ConfigError(f'--seeds: {config.backbone} has no random faults; leave it out, or use '
                          'the simulated backbone')
    return [load(args.config, {**overrides, 'simulated.seed': seed})
            for seed in range(args.seeds)]


def _source(args: argparse.Namespace) -> FrameSource:
    """Return the frames with their truth; InputError when there is none."""
    if args.input.startswith(_SYNTHETIC):
        return _film(args)
    for name in ('frames', 'size'):
        if getattr(args, name) is not None:
            raise InputError(f'--{name} goes with {_SYNTHETIC}SCENE only; --max-frames and '
                             '--every choose frames of a recording')
    source = open_source(Path(args.input), every=args.every, max_frames=args.max_frames)
    missing = [what for what, is_there in (('true depth', source.depth(0) is not None),
                                           ('true poses', source.groundtruth() is not None))
               if not is_there]
    if missing:
        raise InputError(f'{source.describe()}: no {" and no ".join(missing)}, and without '
                         'truth nothing can be compared; give a folder with depth/ and '
                         'gt_tum.txt, or synth:street')
    return TrueFrames(source)


def _film(args: argparse.Namespace) -> FrameSource:
    scene = args.input[len(_SYNTHETIC):]
    production = Production.of(Recipe(scene, args.frames or _N_FRAMES, args.size or _SIZE, _FPS))
    film = SyntheticSource(production.film, production.n_frames, f'synthetic {scene}',
                           use_truth=True)
    return SelectedFrames(film, args.every, args.max_frames)


def _compare(source: FrameSource, config: Config, use_original: bool, progress: Progress,
             n_before: int) -> AblationResult:
    Chosen = backbones.load(config.backbone)
    layerwise = build(LayerwiseConfig, config.layerwise)
    variants = variants_of(_similarity(config), layerwise, use_original)
    ablation = Ablation(Chosen(build(Chosen.Config, config.backbone_options)), config.window,
                        variants, keep_samples=n_before == 0)
    for n, frame in enumerate(source, n_before * len(source) + 1):
        ablation.push(frame)
        progress.update(n, 'compared')
    return ablation.finish()


def _write(folder: Path, record: AblationRecord, force: bool) -> None:
    try:
        with atomic_folder(folder, force) as staging:
            write_text(staging / 'ablation.md', as_markdown(record))
            write_text(staging / 'ablation.json',
                       json.dumps(as_dict(record), indent=2, allow_nan=False) + '\n')
            write_picture(staging / 'ablation.png', record)
    except OSError as error:
        raise InputError(f'{folder}: the results cannot be written ({error.strerror})') from None


def _print(record: AblationRecord, out: Path) -> None:
    run = record.runs[0]
    facts = [('note', SIMULATED)] if record.is_simulated else []
    facts += [('frames', f'{run.n_frames} in {run.n_windows} windows'),
              ('backbone', record.config.backbone)]
    print_facts(facts)
    print()
    print_table(header(), rows(record, means))
    if len(record.runs) > 1:
        print(f'\nmeans over {len(record.runs)} seeds; from the lowest to the highest:\n')
        print_table(header(), rows(record, ranges))
    print()
    sentence = gain_sentence(record)
    print_facts([*([('gain', sentence)] if sentence else []), ('results', str(out))])
