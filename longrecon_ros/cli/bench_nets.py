"""Measure the networks with random weights: time, FLOP, memory, share of what the machine can do.

The measure of the machine is a product of large matrices in the type of the net's large matrices
(`--precision`), taken before and after in the same run; the larger one counts, also for parts that
stay float32. FLOP are those of matrix products and convolutions (multiply-add: 2). A window is
timed as on a stream: the tokens of the overlap are used again, N - O frames are encoded and N
decoded; "all encoded" is without that. Modes: eager; graph (a recorded CUDA graph); compile,
reduce-overhead and max-autotune (of torch.compile). What fails or finds no time is listed with the
reason.

Needs torch and numpy only, and writes the JSON anew after each row. On a machine with a GPU, in
the folder that holds longrecon_ros:

  python -m longrecon_ros.cli.bench_nets --json nets.json

Without a GPU the nets are TINY ones unless --no-tiny is given: to try the command, no figures.

examples:
  longrecon bench nets --net pi3,pi3x,vggt --sizes 518x154 --windows 20/5 --json nets.json
  longrecon bench nets --no-tiny --device cpu --sizes 518x154 --windows 4/1
"""

import argparse
from collections.abc import Callable
import json
import logging
from pathlib import Path
import sys
import time
from typing import Any, TypeVar

from .. import __version__
from ..atomic import write_text
from ..errors import ConfigError, InputError, MissingDependency
from .tables import print_facts, print_table

T = TypeVar('T')

_SIZES, _TINY_SIZES = '518x154,518x392', '112x70'
_WINDOWS, _TINY_WINDOWS = '20/5,30/10', '6/2'
_MODES = 'eager,graph,compile,reduce-overhead'
_PATCH = 14
_RESERVE_S = 10.0                           # for what is measured and written at the end

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('--net', metavar='NET,...', type=_list_of(str), default=['pi3'],
                        help='pi3, pi3x, vggt (default: pi3)')
    parser.add_argument('--sizes', metavar='WxH,...', type=_list_of(parse_size),
                        help=f'of images, px, multiples of {_PATCH} (default: {_SIZES})')
    parser.add_argument('--windows', metavar='N/O,...', type=_list_of(parse_window),
                        help='frames of a window, and how many of them it shares with the one '
                             f'before (default: {_WINDOWS})')
    parser.add_argument('--modes', metavar='MODE,...', type=_list_of(str),
                        help=f'(default: {_MODES}; without a GPU: eager)')
    parser.add_argument('--device', metavar='D', default='auto', help='auto, cpu, cuda, cuda:1')
    parser.add_argument('--precision', metavar='P', default='auto',
                        help='auto, float32, bfloat16, float16')
    parser.add_argument('--tiny', action=argparse.BooleanOptionalAction,
                        help='tiny nets, to try the command (default: without a GPU)')
    parser.add_argument('--json', metavar='FILE', type=Path, help='write all figures to FILE')
    parser.add_argument('--budget-s', metavar='S', type=float, default=420.0,
                        help='what has not begun by then is not run (default: %(default)s)')


def main(args: argparse.Namespace) -> int:
    """Measure, print tables and write the JSON."""
    start_s = time.monotonic()
    benchmark, policies = _nets()
    _check_names('--net', args.net, benchmark.NETS)
    _check_names('--modes', args.modes or [], benchmark.MODES)
    try:
        policy = policies.choose(args.device, args.precision)
    except ValueError as error:
        raise ConfigError(f'bench nets: {error}') from None
    has_gpu = policy.device.type == 'cuda'
    use_tiny = not has_gpu if args.tiny is None else args.tiny
    todo = benchmark.cases(
        args.net, args.sizes or _list_of(parse_size)(_TINY_SIZES if use_tiny else _SIZES),
        args.windows or _list_of(parse_window)(_TINY_WINDOWS if use_tiny else _WINDOWS),
        args.modes or (_MODES.split(',') if has_gpu else ['eager']))
    report = _Report(benchmark, policy, use_tiny, args.net, args.json)
    report.measure_machine()
    budget_s = args.budget_s - (time.monotonic() - start_s) - _RESERVE_S * has_gpu
    for row in benchmark.bench(todo, policy, use_tiny, budget_s):
        report.add(row)
    report.measure_machine()
    report.print()
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """Return (H, W), px, of ``WxH``; raises ``argparse.ArgumentTypeError``."""
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f'{text!r}: expected WIDTHxHEIGHT, such as 518x154')
    shape = int(height), int(width)
    if min(shape) == 0 or any(side % _PATCH for side in shape):
        raise argparse.ArgumentTypeError(f'{text}: both sides must be multiples of {_PATCH} px')
    return shape


def parse_window(text: str) -> tuple[int, int]:
    """Return frames and overlap of ``N/O``; raises ``argparse.ArgumentTypeError``."""
    n_frames, _, n_overlap = text.partition('/')
    if not (n_frames.isdecimal() and n_overlap.isdecimal()):
        raise argparse.ArgumentTypeError(f'{text!r}: expected FRAMES/OVERLAP, such as 20/5')
    if int(n_overlap) >= int(n_frames):
        raise argparse.ArgumentTypeError(f'{text}: the overlap must be less than the window')
    return int(n_frames), int(n_overlap)


def _list_of(parse: Callable[[str], T]) -> Callable[[str], list[T]]:
    def parse_all(text: str) -> list[T]:
        return [parse(part.strip()) for part in text.split(',')]
    return parse_all


def _check_names(option: str, names: list[str], known) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f'bench nets: {option} {name}: choose among {", ".join(known)}')


def _nets():
    """Return the modules that measure and that choose a policy; they need torch."""
    try:
        from ..nets import benchmark, policy
    except ImportError as error:
        raise MissingDependency(f'bench nets needs torch ({error}): pip install torch') from None
    return benchmark, policy


class _Report:
    """Collects what is found, writes it as JSON and prints it."""

    def __init__(self, benchmark, policy, use_tiny: bool, nets: list[str], path: Path | None):
        self._benchmark, self._policy, self._use_tiny = benchmark, policy, use_tiny
        self._path, self._rows, self._rates = path, [], []
        self._weights = {net: benchmark.weights(net, policy, use_tiny) for net in nets}
        if path is not None:
            self._write()                   # before the work: a path that cannot be written

    def measure_machine(self) -> None:
        """Measure the rate of matrix products once more."""
        try:
            self._rates.append(self._benchmark.matmul_rate(self._policy))
        except self._benchmark.FAILURES as error:
            # after a fault of the device; the rate of before stays
            _log.warning('the rate of matrix products was not measured: %s', error)
        self._write()

    def add(self, row) -> None:
        """Take a row."""
        self._rows.append(row)
        self._write()
        case = _case(row.case)
        found = f'{row.measured.ms_window:.1f} ms a window' if row.measured else row.reason
        _log.info('%s %s %s %s: %s', case['net'], case['size'], case['window'], case['mode'],
                  found)

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            write_text(self._path, json.dumps(self.as_dict(), indent=2) + '\n')
        except OSError as error:
            raise InputError(f'{self._path} cannot be written ({error.strerror}): choose another '
                             '--json') from None

    def as_dict(self) -> dict[str, Any]:
        """Return all figures; times in ms, memory in bytes, rates in TFLOP/s."""
        rate = max(self._rates, default=None)
        return {
            'longrecon_ros': __version__, **self._benchmark.versions(),
            'device': self._benchmark.device_name(self._policy.device),
            'precision': str(self._policy.dtype).removeprefix('torch.'),
            'tiny': self._use_tiny,
            'memory': self._benchmark.MEMORY[self._policy.device.type],
            'matmul_tflops': rate and rate / 1e12,
            'matmul_tflops_measured': [found / 1e12 for found in self._rates],
            'nets': {net: {'parameters': n, 'weight_bytes': n_bytes}
                     for net, (n, n_bytes) in self._weights.items()},
            'rows': [self._figures(row, rate) for row in self._rows]}

    def _figures(self, row, rate: float | None) -> dict[str, Any]:
        case, found = row.case, row.measured
        cost, n_new = case.cost(self._use_tiny), case.n_new
        flop = cost.window(case.overlap)
        figures = _case(case) | {
            'status': 'ok' if found else 'failed' if row.is_tried else 'not run',
            'reason': row.reason, 'gflop_window': flop / 1e9,
            'gflop_new_frame': cost.new_frame(case.overlap) / 1e9,
            'gflop_new_frame_all_encoded': cost.new_frame(case.overlap, use_tokens=False) / 1e9}
        if found is None:
            return figures
        eager_ms = next((other.measured.ms_window for other in self._rows if other.measured
                         and _case(other.case) == _case(case) | {'mode': 'eager'}), None)
        rate_here = flop / (1e-3 * found.ms_window)
        whole_ms = found.ms_window_all_encoded
        return figures | {
            'ms_window': found.ms_window, 'ms_new_frame': found.ms_window / n_new,
            'ms_new_frame_all_encoded': whole_ms and whole_ms / n_new,
            'tflops': rate_here / 1e12, 'share': rate and rate_here / rate,
            'gain_over_eager': eager_ms and eager_ms / found.ms_window,
            'n_timed': found.n_timed, 'first_window_s': found.first_window_s,
            'peak_bytes': found.peak_bytes, 'reserved_bytes': found.reserved_bytes,
            'synchronisation': found.synchronisation}

    def print(self) -> None:
        """Print what was measured on, a table, and what was not measured."""
        found = self.as_dict()
        facts = [('device', found['device']), ('torch', found['torch']),
                 ('precision', found['precision']),
                 ('matrix product', ', '.join(f'{rate:.4g}' for rate in
                                              found['matmul_tflops_measured']) + ' TFLOP/s')]
        facts += [('net', f'{net}{", TINY" * found["tiny"]}: {about["parameters"] / 1e6:.1f} M '
                          f'parameters, {about["weight_bytes"] / 1e6:.0f} MB')
                  for net, about in found['nets'].items()]
        facts += [('memory', found['memory'])]
        if found['tiny']:
            facts += [('note', 'TINY nets: these try the command and are no figures of the real '
                               'nets; see --no-tiny')]
        waits = {row['net']: row['synchronisation'] for row in found['rows']
                 if row.get('synchronisation')}
        facts += [('synchronisation', f'{net}: {what}') for net, what in waits.items()]
        print_facts(facts)
        print()
        print_table(_HEADER, [_cells(row) for row in found['rows']])
        for row in found['rows']:
            if row['reason']:
                print(f'{row["net"]} {row["size"]} {row["window"]} {row["mode"]}: '
                      f'{row["status"]}: {row["reason"]}')


def _case(case) -> dict[str, Any]:
    height, width = case.shape
    return {'net': case.net, 'size': f'{width}x{height}',
            'window': f'{case.window}/{case.overlap}', 'mode': case.mode}


_HEADER = ('net', 'size', 'window', 'mode', 'ms/window', 'ms/new frame', 'all encoded',
           'GFLOP/new frame', 'TFLOP/s', 'share', 'vs eager', 'peak MB')


def _cells(row: dict[str, Any]) -> list[str]:
    def cell(key: str, form: str, factor: float = 1.0) -> str:
        value = row.get(key)
        return '-' if value is None else format(factor * value, form)
    return [row['net'], row['size'], row['window'], row['mode'], cell('ms_window', '.2f'),
            cell('ms_new_frame', '.2f'), cell('ms_new_frame_all_encoded', '.2f'),
            cell('gflop_new_frame', '.4g'), cell('tflops', '.4g'), cell('share', '.1%'),
            cell('gain_over_eager', '.2f') + ('x' if row.get('gain_over_eager') else ''),
            cell('peak_bytes', '.0f', 1e-6)]


if __name__ == '__main__':
    from .main import main as longrecon
    sys.exit(longrecon(['bench', 'nets', *sys.argv[1:]]))
