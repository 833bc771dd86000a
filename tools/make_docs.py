#!/usr/bin/env python3
"""Write docs/parameters.md from the list of parameters (config/default.yaml and its ranges).

usage: python tools/make_docs.py [--check]

--check writes nothing and exits with 1 when the page is not what it would write.
"""

import argparse
from pathlib import Path
import sys
from typing import Any, Dict, List, Optional

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs' / 'parameters.md'
sys.path.insert(0, str(ROOT))

from longrecon_ros import parameter_list  # noqa: E402
from longrecon_ros.parameter_list import Parameter  # noqa: E402

HEAD = """# Parameters

Made by `python tools/make_docs.py` from [`config/default.yaml`](../config/default.yaml) and
`longrecon_ros/parameter_list.py`: change those, not this page.

The node takes them as ROS parameters (`-p window.size:=12`, or a file), the command line by the
same names (`--set window.size=12`, or `--config FILE`). A file holds only what differs. Unknown
names, wrong types and values that make no sense are refused, with the nearest name that exists. Of
the backbones' sections, only that of the one that runs is declared.

*When*: **start** parameters are read-only in a running node; **any time** ones are taken over by
`ros2 param set`.
"""
COLUMNS = ('parameter', 'type', 'default', 'range', 'when', 'what it is')


def page() -> str:
    """Return the whole page."""
    path = ROOT / 'config' / 'default.yaml'
    parameters, introductions = parameter_list.read(path), parameter_list.introductions(path)
    texts = parameter_list.descriptions(path)
    groups: Dict[str, List[Parameter]] = {}
    for parameter in parameters.values():
        groups.setdefault(parameter.group, []).append(parameter)
    parts = [HEAD]
    for group, members in groups.items():
        title = f'`{group}`' if group else 'General'
        said = [text for text in (introductions.get(group, ''), texts.get(group, '') if group
                                  else '') if text]
        parts.append('\n'.join([f'## {title}', '', *_paragraphs(said), *_table(members), '']))
    return '\n'.join(parts)


def _paragraphs(texts: List[str]) -> List[str]:
    found = []
    for text in texts:
        found += [_escaped(text[0].upper() + text[1:].rstrip('.') + '.'), '']
    return found


def _table(members: List[Parameter]) -> List[str]:
    rows = [COLUMNS, ('---',) * len(COLUMNS)]
    for one in members:
        rows.append((f'`{one.name}`', one.kind, f'`{_value(one.default)}`', _range(one),
                     'any time' if one.is_runtime else 'start', _escaped(one.text)))
    return [f'| {" | ".join(row)} |' for row in rows]


def _range(parameter: Parameter) -> str:
    if parameter.choices:
        return ', '.join(f'`{choice}`' for choice in parameter.choices)
    if parameter.low is None:
        return ''
    return f'{_value(parameter.low)} to {_value(parameter.high)}'


def _value(value: Any) -> str:
    """Return a value as one writes it in YAML."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, str):
        return value or "''"
    if isinstance(value, (list, tuple)):
        return '[' + ', '.join(map(_value, value)) + ']'
    return f'{value:g}' if isinstance(value, float) and abs(value) >= 1e6 else str(value)


def _escaped(text: str) -> str:
    return text.replace('|', '\\|').replace('<', '&lt;').replace('*', '\\*')


def main(arguments: Optional[List[str]] = None) -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--check', action='store_true',
                        help='write nothing; exit with 1 when the page is not up to date')
    is_check = parser.parse_args(arguments).check
    text = page()
    if not is_check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding='utf-8')
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding='utf-8') == text:
        return 0
    print(f'docs/{PAGE.name} is out of date: python tools/make_docs.py')
    return 1


if __name__ == '__main__':
    sys.exit(main())
