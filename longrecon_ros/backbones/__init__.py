"""The interchangeable predictors of window geometry: one module each, its name is the name.

A module ``foo.py`` here defines ``FooBackbone`` (a `base.Backbone`) and ends with
``BACKBONE = FooBackbone``; nothing else needs to know of it.
"""

import ast
import difflib
import importlib
from pathlib import Path
import pkgutil
from typing import Tuple, Type

from ..errors import ConfigError
from .base import Backbone


def available() -> Tuple[str, ...]:
    """Return the names of all backbones, sorted, without importing any."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)
                        if module.name != 'base' and not module.name.startswith('_')))


def describe(name: str) -> str:
    """Return the first line of a backbone's docstring, without importing it."""
    source = (Path(__path__[0]) / f'{name}.py').read_text(encoding='utf-8')
    return ast.get_docstring(ast.parse(source)).splitlines()[0].replace('`', '')


def load(name: str) -> Type[Backbone]:
    """Import one backbone and return its class; ConfigError for a name that is not there."""
    names = available()
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f'did you mean {close[0]}?' if close else f'choose one of: {", ".join(names)}'
        raise ConfigError(f'backbone: there is no {name!r}; {hint}')
    return importlib.import_module(f'.{name}', __name__).BACKBONE
