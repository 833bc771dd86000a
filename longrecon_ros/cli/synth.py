"""Film a synthetic world: images with exact truth, as an image folder or a rosbag2 bag.

A folder has rgb/, depth/ (16 bit, mm), timestamps.txt, gt_tum.txt and calib.json. A bag has
/camera/image_raw or /camera/image_raw/compressed, /camera/camera_info, /tf_static (base_link to
camera_optical_frame) and /ground_truth/odometry. The same options give the same recording.

examples:
  longrecon synth out/street --scene street --frames 300
  longrecon synth out/room --scene indoor --format bag --images compressed --noise 3
"""

import argparse
from pathlib import Path
import re

from ..atomic import check_output_folder
from ..errors import ConfigError, InputError
from ..synthetic.bag_writer import BagFormat, write_bag
from ..synthetic.effects import Effects
from ..synthetic.folder_writer import write_folder
from ..synthetic.recipe import Production, Recipe
from ..synthetic.worlds import DESCRIPTIONS
from .progress import show_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.epilog = 'scenes:\n' + '\n'.join(
        f'  {name:8} {text}' for name, text in DESCRIPTIONS.items())
    parser.add_argument('out', metavar='OUT', type=Path, help='folder to make; new or empty')
    film = parser.add_argument_group('what is filmed')
    film.add_argument('--scene', choices=tuple(DESCRIPTIONS), default='indoor',
                      help='world (default: %(default)s)')
    film.add_argument('--frames', metavar='N', type=int, help='images (default: one lap)')
    film.add_argument('--size', metavar='WxH', type=parse_size, default=(640, 480),
                      help='image size, px (default: 640x480)')
    film.add_argument('--fps', metavar='HZ', type=float, default=20.0,
                      help='images a second (default: %(default)g)')
    film.add_argument('--speed', metavar='M/S', type=float,
                      help="speed of the camera (default: the world's own)")
    film.add_argument('--fov', metavar='DEG', type=float, default=75.0,
                      help='horizontal field of view (default: %(default)g)')
    film.add_argument('--seed', metavar='S', type=int, default=0,
                      help='another seed is another world (default: %(default)s)')
    _add_effects(parser.add_argument_group('what the camera adds (default: nothing)'))
    files = parser.add_argument_group('files')
    files.add_argument('--format', choices=('folder', 'bag'), default='folder',
                       help='image folder or rosbag2 bag (default: %(default)s)')
    files.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap',
                       help='of a bag (default: %(default)s)')
    files.add_argument('--images', choices=('raw', 'compressed', 'png'), default='raw',
                       help='in a bag; compressed is JPEG (default: %(default)s)')
    files.add_argument('--truth-tf', action='store_true',
                       help='in a bag: true poses on /tf, too (ground_truth_map to '
                            'ground_truth_base_link)')


def _add_effects(group) -> None:
    group.add_argument('--noise', metavar='STD', type=float, default=0.0,
                       help='sensor noise, grey levels: 2 is a good camera, 8 a bad one')
    group.add_argument('--exposure', metavar='EV', type=float, default=0.0,
                       help='slow change of exposure, stops')
    group.add_argument('--blur', metavar='SHARE', type=float, default=0.0,
                       help='motion blur: shutter time as a share of the frame time, 0 to 1')
    group.add_argument('--rolling', metavar='SHARE', type=float, default=0.0,
                       help='bands of brightness that run over the rows, 0 to 1')
    group.add_argument('--distortion', metavar='K', type=float, nargs='+',
                       help='plumb_bob k1 k2 p1 p2 [k3]')


def main(args: argparse.Namespace) -> int:
    """Write the recording; return the exit code."""
    if args.out.is_dir() and any(args.out.iterdir()):
        raise InputError(f'{args.out} is not empty: choose another folder, or remove it')
    check_output_folder(args.out, force=False)
    recipe = Recipe(args.scene, args.frames, args.size, args.fps, args.seed, args.speed, args.fov,
                    tuple(args.distortion) if args.distortion else None,
                    _effects(args))
    production = Production.of(recipe)
    with show_progress(production.n_frames) as progress:
        def report(n_done: int) -> None:
            progress.update(n_done, 'filmed')
        if args.format == 'folder':
            write_folder(args.out, production.film, production.n_frames, report)
        else:
            write_bag(args.out, production.film, production.world.T_base_camera,
                      production.n_frames, _bag_format(args), recipe.as_dict(), report)
    duration_s = (production.n_frames - 1) / recipe.fps
    print(f'{production.n_frames} images, {duration_s:.1f} s, in {args.out}')
    print(f'next: longrecon run {args.out} --out {args.out}-result')
    return 0


def _effects(args: argparse.Namespace) -> Effects:
    try:
        return Effects(args.noise, args.exposure, args.blur, args.rolling)
    except ValueError as error:
        raise ConfigError(str(error).replace('Effects.', '--')) from None


def _bag_format(args: argparse.Namespace) -> BagFormat:
    images = 'jpeg' if args.images == 'compressed' else args.images
    return BagFormat(args.storage, images, args.truth_tf)


def parse_size(text: str) -> tuple[int, int]:
    """Return (width, height) of ``640x480``, for argparse."""
    match = re.fullmatch(r'(\d+)[xX](\d+)', text)
    if not match:
        raise argparse.ArgumentTypeError(f'expected WIDTHxHEIGHT, such as 640x480, got {text!r}')
    return int(match[1]), int(match[2])
