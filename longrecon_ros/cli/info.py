"""Say what an input holds: frames, size, rate, calibration, ground truth, topics.

Without INPUT: what is installed, and where the default parameters are.

examples:
  longrecon info
  longrecon info recording.mcap
  longrecon info clip/ --json
"""

import argparse
from itertools import islice
import json
from pathlib import Path
from typing import Any

import numpy as np

from .. import backbones
from ..config import default_path
from ..errors import InputError
from ..evaluation import path_length
from ..io.bag_reader import is_bag, open_bag
from ..io.bag_topics import list_topics
from ..io.source import FrameSource, open_source
from ..report.versions import versions
from ..types import Frame
from .tables import print_facts

_N_PROBED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('input', metavar='INPUT', type=Path, nargs='?',
                        help='video, folder of images or bag')
    parser.add_argument('--topic', metavar='T', help='image topic of a bag')
    parser.add_argument('--json', action='store_true', help='print JSON')


def main(args: argparse.Namespace) -> int:
    """Print the facts; return the exit code."""
    facts = installation() if args.input is None else about(args.input, args.topic)
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        print_facts([(name, line) for name, value in facts.items() for line in _lines(value)])
    return 0


def installation() -> dict[str, Any]:
    """Return versions, backbones, and where the default parameters are."""
    missing = 'not installed'
    return {**{name: version or missing for name, version in versions().items()},
            'backbones': [backbones.describe(name) for name in backbones.available()],
            'parameters': str(default_path())}


def about(path: Path, topic: str | None) -> dict[str, Any]:
    """Return what an input holds; raises ``InputError`` when it cannot be read at all.

    The topics of a bag are told also when it is not clear which one holds the images.
    """
    facts: dict[str, Any] = {}
    if is_bag(path):
        with open_bag(path) as reader:
            topics = list_topics(reader)
        facts['topics'] = [f'{name} ({kind}, {n} messages)'
                           for name, (kind, n) in topics.items()]
        try:
            source = open_source(path, topic=topic)
        except InputError as error:
            return {**facts, 'problem': str(error)}
    else:
        source = open_source(path, topic=topic)
    return {'source': source.describe(), **_frames(source), **_truth(source), **facts,
            'notes': list(source.warnings)}


def _frames(source: FrameSource) -> dict[str, Any]:
    probed = list(islice(source, _N_PROBED))
    if not probed:
        raise InputError(f'{source.describe()}: there are no frames')
    first = probed[0]
    facts = {'frames': len(source) or 'unknown', 'size': f'{first.size[0]} x {first.size[1]} px',
             'start': f'{first.stamp_ns / 1e9:.3f} s'}
    if len(probed) > 1:
        step_s = float(np.median(np.diff([frame.stamp_ns for frame in probed]))) / 1e9
        facts['rate'] = f'{1 / step_s:.4g} a second'
    return {**facts, 'calibration': _calibration(first)}


def _calibration(frame: Frame) -> str:
    if frame.K is None:
        return 'none: intrinsics are estimated'
    K = frame.K
    text = f'fx {K[0, 0]:.6g}, fy {K[1, 1]:.6g}, cx {K[0, 2]:.6g}, cy {K[1, 2]:.6g} px'
    if frame.distortion is None:
        return f'{text}, no distortion'
    return f'{text}, {frame.distortion_model} {np.round(frame.distortion, 6).tolist()}'


def _truth(source: FrameSource) -> dict[str, Any]:
    truth = source.groundtruth()
    text = 'none' if truth is None else \
        f'{len(truth)} poses over {path_length(truth.positions):.4g} m'
    return {'ground truth': text, 'true depth': 'none' if source.depth(0) is None else 'yes'}


def _lines(value: Any) -> list[str]:
    """Return the lines of one fact: a list has one line an item, and none when empty."""
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
