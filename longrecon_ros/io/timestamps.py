"""Decimal seconds and integer nanoseconds, exactly."""

from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np

from ..errors import InputError

_NS = Decimal(10) ** 9
_MAX_S = Decimal(2**63 - 1) / _NS


def parse_stamp_ns(text: str) -> int:
    """Turn decimal seconds into integer nanoseconds without passing through a float.

    ``'1305031102.211214066'`` becomes 1305031102211214066; digits beyond the ninth are rounded.
    Raises ``ValueError`` for text that is no number or does not fit 64 bits in nanoseconds.
    """
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        seconds = Decimal('nan')
    if not seconds.is_finite() or abs(seconds) > _MAX_S:
        raise ValueError(f'"{text}" is not a time in seconds')
    return int((seconds * _NS).to_integral_value())


def format_stamp(stamp_ns: int) -> str:
    """Turn integer nanoseconds into decimal seconds with nine digits after the point."""
    sign = '-' if stamp_ns < 0 else ''
    seconds, rest = divmod(abs(int(stamp_ns)), 10**9)
    return f'{sign}{seconds}.{rest:09d}'


def read_timestamps(path: Path) -> np.ndarray:
    """Read one time in seconds a line (first column; ``#`` starts a comment) as (K,) i64 ns.

    Raises
    ------
    InputError
        The file is missing, a line is no number, or times do not ascend; the line is named.

    """
    path = Path(path)
    try:
        lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from None
    stamps = []
    for number, line in enumerate(lines, 1):
        words = line.partition('#')[0].replace(',', ' ').split()
        if not words:
            continue
        try:
            stamps.append(parse_stamp_ns(words[0]))
        except ValueError as error:
            raise InputError(f'{path}:{number}: {error}') from None
        if len(stamps) > 1 and stamps[-1] <= stamps[-2]:
            raise InputError(f'{path}:{number}: the time {words[0]} s is not after the one '
                             'before; times must ascend')
    return np.array(stamps, dtype=np.int64)
