"""Run the live node under images at camera rate, and watch from outside whether anything grows.

A synthetic drive of 4 s goes forth and back for as long as it is asked for. Every row is a stretch
of time: latencies from sending an image to its odometry being here (p50, p95) and inside the node
(p95), memory of the node and of its worker, threads, open files, and what was left out of the map.
At the end it says what a minute adds, and what the processes left behind.

examples:
  longrecon bench node --seconds 120
  longrecon bench node --seconds 1800 --rate 30 --size 640x480 --set node.latency_budget_s=2
"""

import argparse

from ..config import parse_override
from ..errors import MissingDependency
from .synth import parse_size
from .tables import print_facts, print_table

_MOST_COMPLAINTS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('--seconds', metavar='S', type=float, default=120.0,
                        help='duration (default: %(default)g)')
    parser.add_argument('--rate', metavar='HZ', type=float, default=30.0,
                        help='images a second (default: %(default)g)')
    parser.add_argument('--size', metavar='WxH', type=parse_size, default=(640, 480),
                        help='of the images, px (default: 640x480)')
    parser.add_argument('--row', metavar='S', type=float, default=10.0,
                        help='seconds a row (default: %(default)g)')
    parser.add_argument('--set', metavar='KEY=VALUE', action='append', default=[],
                        help='a parameter of the node; may be repeated')


def main(args: argparse.Namespace) -> int:
    """Run, and print the table; return 1 when something was left behind."""
    try:
        from ..ros.soak import run_soak, Soak
    except ImportError as error:
        raise MissingDependency(f'bench node needs ROS 2 ({error}): source an installation, or '
                                'run "make setup", which takes it from wheels') from None
    parameters = dict(map(parse_override, args.set))
    soak = Soak(args.seconds, args.rate, args.size, row_s=args.row, parameters=parameters)
    report = run_soak(soak, lambda row: print(
        f'{row.time_s:.0f} s: {row.n_posed} of {row.n_sent} posed, p95 {row.p95_ms:.0f} ms, '
        f'{row.node_mb:.0f} + {row.worker_mb:.0f} MB', flush=True))
    print_table(('s', 'sent', 'posed', 'p50 ms', 'p95 ms', 'inside p95', 'node MB', 'worker MB',
                 'threads', 'files', 'skipped', 'dropped', 'untracked', 'lost'),
                [(f'{r.time_s:.0f}', str(r.n_sent), str(r.n_posed), f'{r.p50_ms:.1f}',
                  f'{r.p95_ms:.1f}', f'{r.inside_p95_ms:.1f}', f'{r.node_mb:.0f}',
                  f'{r.worker_mb:.0f}', str(r.n_threads), str(r.n_files), str(r.n_skipped),
                  str(r.n_dropped), str(r.n_untracked), str(r.n_lost)) for r in report.rows])
    for complaint in report.complaints[:_MOST_COMPLAINTS]:
        print(complaint)
    left = [*map(str, report.left_processes), *report.left_files]
    print_facts([('node grows by', f'{report.slope("node_mb"):.2f} MB a minute'),
                 ('worker grows by', f'{report.slope("worker_mb"):.2f} MB a minute'),
                 ('left behind', ', '.join(left) or 'nothing'),
                 ('exit code', str(report.exit_code))])
    return 1 if left or report.exit_code else 0
