#!/usr/bin/env python3
"""Compare our implementations with reference arrays of the official ones.

FOLDER holds parity fixtures: cases.json, keys_cases.json and case_*.npz. Every case and array is
printed with its deviation and its tolerance; the exit code is 1 when one is beyond it, or when no
case was run.

examples:
  python test/parity/run.py ../shared/parity
  python test/parity/run.py FOLDER --keys ../shared/parity --model laser
"""

import argparse
import importlib
from pathlib import Path
import sys
from typing import Iterator, List, Optional

from reader import Fixtures
from result import Result

MODELS = ('laser', 'pi3', 'vggt', 'stream3r', 'scal3r', 'loger')
"""Each has a module here whose ``results(case)`` compares a case."""


def main(argv: Optional[List[str]] = None) -> int:
    """Run what was asked for; return the exit code."""
    args = _parse(argv)
    fixtures = Fixtures(args.folder, args.keys)
    if args.case is not None and args.case not in fixtures.cases:
        print(f'there is no case {args.case!r}; cases are: {", ".join(fixtures.cases)}')
        return 1
    n_bad = n_run = 0
    skipped = []
    for name in _chosen(fixtures, args):
        about = fixtures.cases[name]
        if about.get('slow') and not args.slow and args.case is None:
            skipped.append(name)
            continue
        n_run += 1
        compare = importlib.import_module(about['model']).results
        n_bad += _report(name, compare(fixtures.case(name)))
    for name in skipped:
        print(f'{name}: not run (slow: add --slow)')
    print(f'{n_run} cases run, {len(skipped)} not run, {n_bad} arrays beyond their tolerance')
    return 1 if n_bad or not n_run else 0


def _parse(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='FOLDER', type=Path, help='folder of fixtures')
    parser.add_argument('--keys', metavar='FOLDER', type=Path,
                        help='folder with keys.json, where FOLDER has none')
    parser.add_argument('--model', choices=MODELS, help='cases of one model')
    parser.add_argument('--case', metavar='NAME', help='one case')
    parser.add_argument('--slow', action='store_true', help='the slow cases, too')
    return parser.parse_args(argv)


def _chosen(fixtures: Fixtures, args: argparse.Namespace) -> Iterator[str]:
    for name, about in fixtures.cases.items():
        if args.case in (None, name) and args.model in (None, about['model']):
            yield name


def _report(name: str, found: List[Result]) -> int:
    """Print the results of a case; return how many are bad."""
    print(f'{name}:')
    width = max(len(result.name) for result in found)
    for result in found:
        mark = 'ok  ' if result.is_good else 'FAIL' if result.is_judged else 'more'
        print(f'  {mark} {result.name:{width}}  {result.deviation:9.2e}  of '
              f'{result.tolerance:.2e}  {result.remark}'.rstrip())
    return sum(result.is_judged and not result.is_good for result in found)


if __name__ == '__main__':
    sys.exit(main())
