"""Write the network of a backbone as files for other runtimes, and compare them with torch.

FORMAT onnx makes graphs of fixed size for windows of a fixed number of frames: window.onnx
(images to points and poses), or encoder.onnx and decoder.onnx, of which the encoder runs on new
frames only. ONNX Runtime repeats on the CPU what torch says of random images; the differences are
printed and kept in manifest.json. When one is above the tolerance, DIR is not made.

examples:
  longrecon export onnx pi3 --out out/graphs --size 518x154 --window 20
  longrecon export onnx pi3 --out out/graphs --size 518x154 --parts encoder,decoder
  longrecon run clip/ --out out/clip --set backbone=pi3 --set pi3.graphs=out/graphs
"""

import argparse
from pathlib import Path
from typing import Any

from .. import backbones
from ..atomic import check_output_folder
from ..backbones.base import ExportableBackbone
from ..config import build, Config, load, parse_override
from ..errors import ConfigError, MissingDependency
from .run import add_config_arguments, parse_count
from .synth import parse_size
from .tables import print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('format', metavar='FORMAT', choices=('onnx',), help='onnx')
    parser.add_argument('backbone', metavar='BACKBONE', help='whose network: pi3, pi3x or vggt')
    parser.add_argument('-o', '--out', metavar='DIR', type=Path, required=True,
                        help='folder for the graphs')
    parser.add_argument('--force', action='store_true',
                        help='replace the graphs in DIR if there are any')
    parser.add_argument('--size', metavar='WxH', type=parse_size, required=True,
                        help='size of the images that the network gets, px')
    parser.add_argument('--window', metavar='N', type=parse_count,
                        help='frames of a window (default: window.size)')
    parser.add_argument('--encoder-frames', metavar='N', type=parse_count,
                        help='frames that the encoder takes at a time (default: those of a window '
                             'less window.overlap)')
    parser.add_argument('--parts', metavar='LIST', default='encoder,window',
                        help='graphs to write, of encoder, decoder and window (default: '
                             '%(default)s); encoder,decoder spares encoding frames twice')
    parser.add_argument('--tolerance', metavar='X', type=float, default=1e-4,
                        help='largest difference allowed, over the largest value of an output '
                             '(default: %(default)g)')
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Write the graphs and print the differences; return the exit code."""
    check_output_folder(args.out, args.force)
    config = load(args.config, {**dict(map(parse_override, args.set)), 'backbone': args.backbone})
    chosen = _exportable(args.backbone)
    onnx, parts = _modules(args.backbone)
    onnx.check_packages()
    n = args.window or config.window.size
    names = tuple(dict.fromkeys(filter(None, args.parts.split(','))))
    if not names or not set(names) <= set(parts.PARTS):
        raise ConfigError(f'--parts {args.parts}: choose some of {",".join(parts.PARTS)}')
    try:
        shape = parts.Shape(args.size[1], args.size[0], n,
                            args.encoder_frames or max(1, n - config.window.overlap))
    except ValueError as error:
        raise ConfigError(f'--size: {error}') from None
    net, weights, is_untrained = _net(chosen, config)
    manifest = onnx.export_onnx(net, args.backbone, weights, shape, args.out, names,
                                args.tolerance, args.force, is_untrained)
    _print(manifest, args.out)
    return 0


def _exportable(name: str) -> type[ExportableBackbone]:
    """Return the class of a backbone; ConfigError when it has no network."""
    chosen = backbones.load(name)
    if issubclass(chosen, ExportableBackbone):
        return chosen
    others = [other for other in backbones.available()
              if issubclass(backbones.load(other), ExportableBackbone)]
    raise ConfigError(f'backbone {name} cannot be exported; choose one of: {", ".join(others)}')


def _modules(backbone: str):
    """Return the modules of the export; MissingDependency without torch."""
    try:
        from ..export import onnx, parts
    except ModuleNotFoundError as error:
        if error.name != 'torch':
            raise
        raise MissingDependency(f'export onnx {backbone} needs torch: pip install torch') from None
    return onnx, parts


def _net(chosen: type[ExportableBackbone], config: Config) -> tuple[Any, str, bool]:
    """Return the network, which weights it has, and whether they are random numbers."""
    backbone = chosen(build(chosen.Config, config.backbone_options))
    # the backbone, and the network it runs itself, are let go
    return (*backbone.export_net(), backbone.is_untrained)


def _print(manifest: dict[str, Any], folder: Path) -> None:
    rows = [(report['file'], output, f'{error["largest"]:.3g}', f'{error["max_abs"]:.1e}',
             f'{error["relative"]:.1e}')
            for report in manifest['parts'].values() for output, error in report['errors'].items()]
    print_table(('graph', 'output', 'largest', 'difference', 'relative'), rows)
    name, n = manifest['backbone'], manifest['frames']
    print(f'{name}, windows of {n} frames of {manifest["width"]}x{manifest["height"]} px, in '
          f'{folder}; weights: {manifest["weights"]}')
    if {'encoder', 'decoder'} <= set(manifest['graphs']) or 'window' in manifest['graphs']:
        print(f'next: longrecon run INPUT --out OUT --set backbone={name} --set '
              f'{name}.graphs={folder} --set window.size={n}')
