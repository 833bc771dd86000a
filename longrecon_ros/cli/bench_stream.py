"""Measure STream3R frame by frame with random weights: time and memory along a stream.

In mode window both stay flat, in mode causal both grow with every frame. A frame is timed from its
image on the device to its camera on the host. "decode/encode" compares the times of what could
grow and of what is the same work for every frame: on a CPU it holds when the machine is busy, too.
"peak" is torch's own count on CUDA, and the peak of the process, libraries included, on a CPU.
What the authors state for one H200, 518x384 px, mode window: 150 ms a frame and 6.53 GB.

Needs torch and numpy only. On a machine with a GPU, in the folder that holds longrecon_ros:

  python -m longrecon_ros.cli.bench_stream

Without a GPU the net is a TINY one unless --no-tiny is given: to see that nothing grows.

examples:
  OMP_NUM_THREADS=1 longrecon bench stream --frames 2000 --block 250
  longrecon bench stream --mode causal --frames 200 --block 20 --size 518x392
"""

import argparse
import logging
import sys

from ..errors import ConfigError, MissingDependency
from .bench_nets import parse_size
from .tables import print_facts, print_table

_SIZE, _TINY_SIZE = '518x392', '112x70'

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('--mode', choices=('window', 'causal'), default='window',
                        help='(default: %(default)s)')
    parser.add_argument('--n-recent', metavar='K', type=int, default=5,
                        help='frames that mode window looks back at (default: %(default)s)')
    parser.add_argument('--size', metavar='WxH', type=parse_size,
                        help=f'of images, px (default: {_SIZE}; {_TINY_SIZE} for TINY)')
    parser.add_argument('--frames', metavar='N', type=int, default=300,
                        help='of the stream (default: %(default)s)')
    parser.add_argument('--block', metavar='N', type=int, default=50,
                        help='frames a row (default: %(default)s)')
    parser.add_argument('--device', metavar='D', default='auto', help='auto, cpu, cuda, cuda:1')
    parser.add_argument('--precision', metavar='P', default='auto',
                        help='auto, float32, bfloat16, float16')
    parser.add_argument('--graph', action=argparse.BooleanOptionalAction, default=True,
                        help='replay recorded CUDA graphs in mode window (default: on a GPU)')
    parser.add_argument('--tiny', action=argparse.BooleanOptionalAction,
                        help='a tiny net, to try the command (default: without a GPU)')


def main(args: argparse.Namespace) -> int:
    """Measure, and print a table."""
    for name in ('n_recent', 'frames', 'block'):
        if getattr(args, name) < 1:
            raise ConfigError(f'bench stream --{name.replace("_", "-")}: expected 1 or more, got '
                              f'{getattr(args, name)}')
    try:
        from ..nets import benchmark, policy, stream_benchmark
    except ImportError as error:
        raise MissingDependency(f'bench stream needs torch ({error}): pip install torch'
                                ) from None
    try:
        chosen = policy.choose(args.device, args.precision)
    except ValueError as error:
        raise ConfigError(f'bench stream: {error}') from None
    use_tiny = chosen.device.type != 'cuda' if args.tiny is None else args.tiny
    height, width = args.size or parse_size(_TINY_SIZE if use_tiny else _SIZE)
    use_graph = args.graph and args.mode == 'window' and chosen.device.type == 'cuda'
    stream = stream_benchmark.Stream((height, width), args.n_recent if args.mode == 'window'
                                     else None, chosen, use_tiny, use_graph)
    blocks = []
    for block in stream.run(args.frames, args.block):
        blocks.append(block)
        _log.info('%d frames: %.2f ms a frame', block.n_frames, block.ms_frame)
    print_facts([('device', benchmark.device_name(chosen.device)),
                 ('torch', benchmark.versions()['torch']),
                 ('precision', str(chosen.dtype).removeprefix('torch.')),
                 ('net', f'STream3R{", TINY" * use_tiny}, random weights, '
                         f'{stream.weight_bytes / 1e6:.0f} MB'),
                 ('stream', f'{args.mode}, {width}x{height} px{", CUDA graph" * use_graph}'),
                 ('memory', benchmark.MEMORY[chosen.device.type])])
    print()
    print_table(('frames', 'ms/frame', 'to first', 'decode/encode', 'cached frames', 'cache MB',
                 'MB/cached frame', 'peak MB'), [_cells(block, blocks[0]) for block in blocks])
    return 0


def _cells(block, first) -> list[str]:
    return [str(block.n_frames), f'{block.ms_frame:.2f}', f'{block.ms_frame / first.ms_frame:.2f}',
            '-' if block.decode_to_encode is None else f'{block.decode_to_encode:.2f}',
            str(block.n_cached), f'{block.cache_bytes / 1e6:.2f}',
            f'{block.cache_bytes / 1e6 / block.n_cached:.3f}',
            '-' if block.peak_bytes is None else f'{block.peak_bytes / 1e6:.0f}']


if __name__ == '__main__':
    from .main import main as longrecon
    sys.exit(longrecon(['bench', 'stream', *sys.argv[1:]]))
