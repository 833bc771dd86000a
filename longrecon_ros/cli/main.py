"""`longrecon VERB ...`: finds the verb, imports it, and turns errors into one line."""

import argparse
from collections.abc import Sequence
import difflib
import importlib
import os
import sys
from types import MappingProxyType
from typing import NoReturn

from .. import __version__
from ..errors import ConfigError, LongreconError
from .logs import set_up_logging

VERBS = MappingProxyType({
    'run': ('.run', 'reconstruct a video, a folder of images or a bag'),
    'replay': ('.replay', 'play a bag through the live ROS node and keep its results'),
    'ablate': ('.ablate', 'compare ways to align windows: ATE, depth, points, time'),
    'map': ('.map', 'keep maps, look at them, write them for other tools'),
    'evaluate': ('.evaluate', 'compare a trajectory with the truth: ATE, RPE, drift'),
    'info': ('.info', 'say what an input holds, or what is installed'),
    'weights': ('.weights', 'list, fetch and check the checkpoints of networks'),
    'synth': ('.synth', 'film a synthetic world: images with exact truth'),
    'demo': ('.demo', 'a synthetic drive through the live ROS node, start to report'),
    'export': ('.export', 'write the network of a backbone as graphs of ONNX'),
    'train': ('.train', 'train a small LoGeR on synthetic rooms: what its memories do'),
    'bench': ('.bench', 'measure speed and accuracy on this machine'),
    'bench nets': ('.bench_nets', 'measure the networks: time, FLOP, memory'),
    'bench stream': ('.bench_stream', 'measure STream3R frame by frame: does anything grow'),
    'bench node': ('.bench_node', 'run the live node for long: latency, memory, leftovers'),
    'bench lockstep': ('.bench_lockstep', 'compare the exact form of scal3r with the live one'),
})
"""Name of a verb to its module, relative to this package, and what it does. A module has
``add_arguments(parser)`` and ``main(args) -> int``; its docstring is the text of ``--help``.
A name of two words goes before that of the first alone."""

OK, INTERRUPTED, FAILED = 0, 130, 2

_QUIET_LIBRARIES = MappingProxyType({'OPENCV_LOG_LEVEL': 'SILENT', 'OPENCV_FFMPEG_LOGLEVEL': '-8'})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for errors of use, 130 for Ctrl-C."""
    # OpenCV reads these when it is imported; it would add its own lines to ours
    for name, value in _QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except LongreconError as error:
        print(f'longrecon: error: {" ".join(str(error).split())}', file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print('longrecon: interrupted', file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of our output is gone: python would complain once more while it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `ConfigError`, so that they become one line, too."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise ConfigError(f'{message} (see "{self.prog} --help")')


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ('-h', '--help', 'help'):
        print(_overview())
        return OK
    if argv[0] in ('-V', '--version'):
        print(f'longrecon {__version__}')
        return OK
    name = next((name for name in (' '.join(argv[:2]), argv[0]) if name in VERBS), argv[0])
    if name not in VERBS:
        close = difflib.get_close_matches(name, VERBS, 1)
        hint = f'did you mean "{close[0]}"?' if close else f'verbs are {", ".join(VERBS)}'
        raise ConfigError(f'there is no verb "{name}"; {hint}')
    verb = importlib.import_module(VERBS[name][0], __package__)
    args = _parse(name, verb, argv[len(name.split()):])
    if args is None:
        return OK
    set_up_logging(args.verbose, args.quiet)
    return verb.main(args)


def _parse(name: str, verb, argv: list[str]) -> argparse.Namespace | None:
    """Return the arguments of a verb; None when only its help was wanted (and printed)."""
    parser = Parser(f'longrecon {name}', description=verb.__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    verb.add_arguments(parser)
    logs = parser.add_argument_group('messages')
    logs.add_argument('-v', '--verbose', action='store_true', help='say more while working')
    logs.add_argument('-q', '--quiet', action='store_true', help='say warnings only')
    try:
        return parser.parse_args(argv)
    except SystemExit:
        return None


def _overview() -> str:
    lines = ['usage: longrecon VERB ...', '',
             "One camera's images become a trajectory and a dense coloured map.", '', 'verbs:']
    lines += [f'  {name:14} {text}' for name, (_, text) in VERBS.items()]
    lines += ['', 'options:', '  -h, --help     show this; "longrecon VERB --help" says more',
              '  -V, --version  show the version', '', 'examples:',
              '  longrecon run video.mp4 --out out/video',
              '  longrecon info recording.mcap',
              '  longrecon evaluate out/video truth_tum.txt']
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
