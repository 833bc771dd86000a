"""Compare an estimated trajectory with the true one: ATE, RPE and drift.

EST and GT are TUM files (stamp tx ty tz qx qy qz qw) or KITTI files (3x4 matrices), camera to
world. EST may be the folder that "longrecon run" left, GT a folder with gt_tum.txt. Poses are
paired by the nearest time. After "sim3" lengths are in metres; "se3" keeps the estimate's scale.

examples:
  longrecon evaluate out/video truth.txt
  longrecon evaluate est.txt gt.txt --align se3 --json
"""

import argparse
from dataclasses import replace
import json
from pathlib import Path

from ..errors import InputError
from ..evaluation import evaluate, Evaluation, Statistics
from ..io.trajectory_file import is_kitti, read_trajectory
from ..report.findings import CAVEATS
from ..report.summary import evaluation_as_dict
from ..types import Trajectory
from .tables import print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('est', metavar='EST', type=Path,
                        help='estimated trajectory, or run folder')
    parser.add_argument('gt', metavar='GT', type=Path, help='true trajectory')
    parser.add_argument('--align', choices=('sim3', 'se3'), default='sim3',
                        help='transform that brings EST to GT (default: %(default)s)')
    parser.add_argument('--max-dt', metavar='S', type=float, default=0.02,
                        help='largest difference of paired times, s (default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='print JSON')


def main(args: argparse.Namespace) -> int:
    """Print the errors; return the exit code."""
    est, gt = _read_pair(_file_of(args.est, 'trajectory.txt'), _file_of(args.gt, 'gt_tum.txt'))
    evaluation = evaluate(est, gt, args.align, args.max_dt)
    caveats = _caveats(args.est)
    if args.json:
        print(json.dumps({**caveats, **evaluation_as_dict(evaluation)}, indent=2))
    else:
        for key in filter(caveats.get, caveats):
            print(f'{CAVEATS[key]}\n')
        _print(evaluation)
    return 0


def _caveats(est: Path) -> dict[str, bool]:
    """Return what a run folder says of its predictions: made from the truth, by a random net."""
    file = est / 'result.json'
    try:
        summary = json.loads(file.read_text()) if file.is_file() else {}
        return {key: bool(summary.get(key)) for key in CAVEATS}
    except (ValueError, AttributeError):
        return dict.fromkeys(CAVEATS, False)        # not ours


def _file_of(path: Path, name: str) -> Path:
    return path / name if path.is_dir() else path


def _read_pair(est_file: Path, gt_file: Path) -> tuple[Trajectory, Trajectory]:
    """Read both; one without times gets those of the other."""
    est, gt = read_trajectory(est_file), read_trajectory(gt_file)
    is_timeless = is_kitti(est_file), is_kitti(gt_file)
    if any(is_timeless) and len(est) != len(gt):
        file = gt_file if is_timeless[1] else est_file
        raise InputError(f'{file} has no times, so both files must have as many poses; there are '
                         f'{len(est)} and {len(gt)}')
    if is_timeless[0]:
        est = replace(est, stamps_ns=gt.stamps_ns)
    elif is_timeless[1]:
        gt = replace(gt, stamps_ns=est.stamps_ns)
    return est, gt


def _print(evaluation: Evaluation) -> None:
    e = evaluation
    print(f'{len(e.pairs)} of {e.n_poses} poses paired, true path {e.path_length_m:.2f} m, '
          f'aligned by {e.align}, true metres an estimated unit: {e.scale:.6g}\n')
    rows = [('ATE after Sim(3), m', e.ate_sim3_m), ('ATE after SE(3), m', e.ate_se3_m),
            ('RPE a frame, m', e.rpe_frame.translation_m),
            ('RPE a frame, deg', e.rpe_frame.rotation_deg)]
    if e.rpe_metre:
        rows += [('RPE a metre, m', e.rpe_metre.translation_m),
                 ('RPE a metre, deg', e.rpe_metre.rotation_deg)]
    print_table(['', 'rmse', 'mean', 'median', 'std', 'min', 'max'],
                [[name, *_numbers(statistics)] for name, statistics in rows])
    d = e.drift
    print(f'\ndrift {d.percent:.3f} %, {d.deg_per_m:.5f} deg/m over {d.n_segments} segments of '
          f'{d.lengths_m[0]:.3g} to {d.lengths_m[-1]:.3g} m'
          + ('' if d.is_standard else ' (shortened: the path is too short for 100 to 800 m)'))


def _numbers(s: Statistics) -> list[str]:
    return [f'{v:.4f}' for v in (s.rmse, s.mean, s.median, s.std, s.min, s.max)]
