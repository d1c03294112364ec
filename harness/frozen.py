# SPDX-License-Identifier: GPL-2.0-only
"""Frozen values to text and back, exactly, so that what was worked out once can be kept in the store. Pure."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def dump(value: object) -> str:
    """A frozen dataclass of dataclasses, tuples, numbers, strings and None, as JSON."""
    return json.dumps(dataclasses.asdict(cast("Any", value)))


def load(kind: type[T], text: str) -> T:
    """The value of type `kind` that `dump` wrote.

    Raises:
        ValueError: it holds something else.
    """
    return cast("T", _reader(kind)(json.loads(text)))


def _reader(kind: Any) -> Callable[[Any], Any]:
    """What turns JSON into a value of a type; made once for each place of the type, not for each value."""
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(cast("type", kind))
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (some,) = (_reader(each) for each in inner if each is not type(None))
        return lambda raw: None if raw is None else some(raw)
    if origin is tuple:
        readers = [_reader(each) for each in inner if each is not Ellipsis]
        if len(readers) < len(inner):
            return lambda raw: tuple(map(readers[0], _checked(raw, isinstance(raw, list))))
        return lambda raw: tuple(read(each) for read, each in zip(readers, _checked(raw, isinstance(raw, list)),
                                                                  strict=True))
    if origin is Literal:
        return lambda raw: _checked(raw, raw in inner)
    return lambda raw: _checked(raw, isinstance(raw, kind))


def _dataclass_reader(kind: type) -> Callable[[Any], Any]:
    readers = {name: _reader(each) for name, each in get_type_hints(kind).items()}

    def read(raw: Any) -> Any:
        _checked(raw, isinstance(raw, dict) and raw.keys() == readers.keys())
        return kind(**{name: reader(raw[name]) for name, reader in readers.items()})

    return read


def _checked(raw: Any, fits: bool) -> Any:
    if not fits:
        raise ValueError(f"not of the type that was written: {raw!r:.80}")
    return raw
