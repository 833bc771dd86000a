"""Plain text tables."""

from collections.abc import Sequence


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns: the first aligned left, numbers right."""
    table = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[k]) for row in table) for k in range(len(header))]
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print('  '.join(cells).rstrip())


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print name and value a line, values aligned; a name that repeats is printed once."""
    width = max(len(name) for name, _ in facts)
    last = None
    for name, value in facts:
        print(f'{"" if name == last else name:{width}}  {value}')
        last = name
