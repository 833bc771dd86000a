"""Train a small LoGeR on synthetic rooms, to see what its two memories do on long sequences.

LoGeR has two memories beyond its window: fast weights (TTT), and a look back at the window before
(SWA). Here a net of less than a million parameters drives round random rooms and learns from exact
truth; now and then the light goes out for 3 to 9 frames, and only memory can tell how the camera
moves on. It is tested in rooms it has not seen, on sequences up to 16 times as long as any it was
trained on, windows chained by their first shared camera. A first stage, without memory and in full
light, stands for the weights of pi3 with which the original began. --ablation goes on from there
four times a seed (with neither memory, with each, with both), with the same sequences, loss and
number of steps, and compares the four in DIR/ablation.md and .json.

What it shows: whether the machinery learns, and what each memory is good for in this small world.
What it does not show: anything about real images, the released nets, or accuracy in general. The
weights are of no use outside such rooms.

NET is loger-tiny (for a CPU) or loger-small (for a GPU). What is interrupted goes on with --resume
from the last checkpoint, to the same result.

examples:
  longrecon train loger-tiny --out out/tiny
  longrecon train loger-tiny --out out/tiny --resume
  longrecon train loger-small --out out/small --minutes 18
  longrecon train loger-tiny --ablation --seeds 3 --out out/ablation
"""

import argparse
from dataclasses import asdict, replace
import json
import logging
import os
from pathlib import Path
import time
from types import MappingProxyType

from ..atomic import check_output_folder, write_text
from ..errors import ConfigError, InputError, MissingDependency
from .progress import show_progress
from .run import parse_count
from .tables import print_facts, print_table

NETS = MappingProxyType({'loger-tiny': 'TINY', 'loger-small': 'SMALL'})
_VARIANTS = ('both', 'fast', 'past', 'none')
_TEST_SEED, _N_TEST_ROOMS = 10_000, 12

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('net', metavar='NET', choices=NETS, help=', '.join(NETS))
    parser.add_argument('-o', '--out', metavar='DIR', type=Path, required=True,
                        help='folder for checkpoint, weights and figures')
    parser.add_argument('--variant', choices=_VARIANTS, default='both',
                        help='memory: both, fast (TTT alone), past (SWA alone), none '
                             '(default: %(default)s)')
    parser.add_argument('--ablation', action='store_true', help='train and compare all four')
    parser.add_argument('--seeds', metavar='N', type=parse_count, default=1,
                        help='with --ablation: seeds 0 to N-1 (default: %(default)s)')
    parser.add_argument('--seed', metavar='S', type=int, default=0,
                        help='of weights and sequences (default: %(default)s)')
    parser.add_argument('--steps', metavar='N', type=parse_count,
                        help='steps of the optimiser (default: those of NET)')
    parser.add_argument('--pretrain', metavar='N', type=parse_count,
                        help='steps of the first stage, which has no memory (default: those of '
                             'NET)')
    parser.add_argument('--minutes', metavar='M', type=float,
                        help='stop training after so long; --resume goes on')
    parser.add_argument('--resume', action='store_true',
                        help='go on with what DIR holds, instead of refusing it')
    parser.add_argument('--device', metavar='D', default='auto', help='auto, cpu, cuda, cuda:1')
    parser.add_argument('--threads', metavar='N', type=parse_count, default=1,
                        help='of the CPU; nets this small gain little (default: %(default)s)')
    parser.add_argument('--films', metavar='DIR', type=Path,
                        help='where the filmed rooms are kept (default: films in --out)')
    parser.add_argument('--rooms', metavar='N', type=parse_count,
                        help='rooms to train on (default: those of NET)')


def main(args: argparse.Namespace) -> int:
    """Film, train, test, write; return the exit code."""
    check_output_folder(args.out, args.resume)
    job = _Job(args)
    if args.ablation:
        job.compare()
    else:
        job.train_one()
    return 0


class _Job:
    """What the arguments ask for."""

    def __init__(self, args: argparse.Namespace):
        # threads that spin while they wait would stop each other on a busy machine
        os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
        self._args, self._start_s = args, time.monotonic()
        self._train = _modules()
        setting = getattr(self._train.variants, NETS[args.net])
        changes = {'n_steps': args.steps, 'n_pretrain': args.pretrain, 'n_rooms': args.rooms}
        self.setting = replace(setting, **{k: v for k, v in changes.items() if v is not None})
        try:
            self.device = self._train.policy.choose(args.device).device
        except ValueError as error:
            raise ConfigError(f'train: {error}') from None
        self._train.loop.use_threads(args.threads)
        self.laps, self.test_laps = self._film(0, self.setting.n_rooms), \
            self._film(_TEST_SEED, _N_TEST_ROOMS)

    def train_one(self) -> None:
        """Train one variant, and write its weights and figures."""
        args = self._args
        run, net = self._run(args.variant, args.seed, args.out)
        if run is None:
            return
        self._write_weights(net, run)
        self._write('training.json', json.dumps(self._train.ablation.as_dict(
            [run], self._about()), indent=2) + '\n')
        print_facts([('steps', f'{run.n_steps} in {run.train_s / 60:.1f} min'),
                     ('net', f'{run.n_parameters} parameters, {run.variant}'),
                     ('label', self._train.shipped.LABEL)])
        print()
        self._print([run])
        print(f'\nresults in {args.out}')

    def compare(self) -> None:
        """Train all variants with all seeds; the tables are written anew after each."""
        args, runs = self._args, []
        for seed in range(args.seeds):
            for variant in self._train.variants.VARIANTS:
                runs.append(self._finished(variant, seed))
                if runs[-1] is None:
                    return
                ablation, about = self._train.ablation, self._about()
                self._write('ablation.json', json.dumps(ablation.as_dict(runs, about), indent=2)
                            + '\n')
                self._write('ablation.md', ablation.as_markdown(runs, about))
        self._print(runs)
        print(f'\ntables in {args.out / "ablation.md"}')

    def _finished(self, variant: str, seed: int):
        """Return the run of an ablation, from its file where there is one; None if cut short."""
        folder = self._args.out / f'{variant}_{seed}'
        file = folder / 'run.json'
        if file.exists():
            values = json.loads(file.read_text(encoding='utf-8'))
            if values.pop('setting', None) != repr(self.setting):
                raise InputError(f'{file}: was made with other arguments; give those, or another '
                                 '--out')
            return self._train.ablation.Run.from_dict(values)
        run, _ = self._run(variant, seed, folder)
        if run is not None:
            self._write(f'{variant}_{seed}/run.json', json.dumps(
                {**asdict(run), 'setting': repr(self.setting)}, indent=2) + '\n')
        return run

    def _run(self, variant: str, seed: int, folder: Path):
        """Train to the end and test: return the run and its net; None, None if cut short."""
        loop, ablation, setting = self._train.loop, self._train.ablation, self.setting
        # one for all seeds, as the original begins with the weights of pi3
        first = loop.Training(self._train.variants.pretraining(setting), 'none', 0, self.device)
        if not self._fit(first, self._args.out / 'pretrained', 'first stage'):
            return None, None
        training = loop.Training(setting, variant, seed, self.device, first.net.state_dict())
        if not self._fit(training, folder, variant):
            return None, None
        net = training.net.eval()
        return ablation.Run(
            variant, seed, setting.n_steps, sum(p.numel() for p in net.parameters()),
            training.spent_s, ablation.test_all(net, self.test_laps, setting),
            ablation.test_all(net, self.test_laps, setting, setting.longest)
            if net.ttt_layers else ()), net

    def _fit(self, training, folder: Path, name: str) -> bool:
        """Train to the end, from a checkpoint where there is one; False if cut short."""
        loop, setting = self._train.loop, training.setting
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / loop.CHECKPOINT).exists():
            training.restore(folder / loop.CHECKPOINT)
            _log.info('%s: goes on at step %d', name, training.n_done)
        name = f'{name}, seed {training.seed}'
        with show_progress(setting.n_steps) as progress:
            is_done = loop.fit(training, self.laps, folder, limit_s=self._left_s(),
                               update=lambda now: progress.update(
                                   now.step, f'steps of {name}: loss {now.loss:.3f}'))
        if not is_done:
            print(f'{name}: stopped after {training.n_done} of {setting.n_steps} steps; the same '
                  'command with --resume goes on')
        return is_done

    def _left_s(self) -> float | None:
        """Return the seconds left of --minutes."""
        minutes = self._args.minutes
        return None if minutes is None else 60 * minutes - (time.monotonic() - self._start_s)

    def _film(self, first_seed: int, n_rooms: int):
        with show_progress(n_rooms) as progress:
            return self._train.data.film_once(
                self._args.films or self._args.out / 'films', first_seed, n_rooms,
                self.setting.image, lambda n, remark: progress.update(n, remark))

    def _about(self) -> dict:
        setting = self.setting
        return {'net': self._args.net, 'device': str(self.device),
                'steps': f'{setting.n_pretrain} without memory in full light, shared by all, then '
                         f'{setting.n_steps} each',
                'trained on': f'at most {setting.longest} windows of {setting.window} frames that '
                              f'share {setting.overlap} (gradients through '
                              f'{setting.n_windows}), {setting.batch} sequences a step, '
                              f'{setting.n_rooms} rooms',
                'tested on': f'{"/".join(map(str, self._train.ablation.LENGTHS.values()))} '
                             f'sequences in {_N_TEST_ROOMS} other rooms',
                'label': self._train.shipped.LABEL}

    def _write_weights(self, net, run) -> None:
        path = self._args.out / f'{self._args.net.replace("-", "_")}.safetensors'
        self._train.shipped.save_weights(net, path, {
            'net': self._args.net, 'variant': run.variant, 'seed': str(run.seed),
            'steps': f'{self.setting.n_pretrain} without memory in full light, then '
                     f'{run.n_steps}', 'size': self._train.shipped.as_text(asdict(net.size))})

    def _write(self, name: str, text: str) -> None:
        path = self._args.out / name
        try:
            write_text(path, text)
        except OSError as error:
            raise InputError(f'{path}: cannot be written ({error.strerror}); choose another --out'
                             ) from None

    def _print(self, runs) -> None:
        rows = [[f'{run.variant} seed {run.seed}', str(test.n_windows),
                 f'{test.ate_plain_m:.2f}', f'{test.ate_chained_m:.2f}', f'{test.blind_m:.2f}',
                 f'{test.turn_deg:.1f}', f'{test.shift_percent:.1f}']
                for run in runs for test in run.tests]
        print_table(['memory', 'windows', 'ATE plain', 'chained', 'knowing nothing [m]',
                     'turn [deg]', 'shift [%]'], rows)


def _modules() -> argparse.Namespace:
    """Return the modules that need torch."""
    try:
        from ..nets import policy
        from ..train import ablation, data, loop, shipped, variants
    except ImportError as error:
        raise MissingDependency(f'train needs torch ({error}): pip install torch') from None
    return argparse.Namespace(policy=policy, ablation=ablation, data=data, loop=loop,
                              shipped=shipped, variants=variants)
