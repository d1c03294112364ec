# SPDX-License-Identifier: GPL-2.0-only
"""A YAML file to nodes that know their place in it and are read by asking for what they should be.

Whatever is wrong is refused with file and line. The only import of yaml.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import yaml

from harness.errors import UsageError

_Word = TypeVar("_Word", bound=str)
_LONGEST_NAME = 255
"""Bytes of a name in a folder (NAME_MAX)."""


def read_node(file: Path, key: str) -> Node:
    """The top of a YAML file; `key` is what messages call it.

    Raises:
        UsageError: the file cannot be read, is no YAML, or is empty.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the {key} cannot be read: {error.strerror}", where=str(file),
                         hint=f"name a {key} file, or a folder with a plan.yaml in it") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the {key} is not UTF-8 text", where=str(file)) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"not YAML: {error.problem}", where=f"{file}:{line}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"not YAML: {error}", where=str(file)) from error
    except RecursionError:
        raise UsageError(f"the {key} is nested too deeply", where=str(file)) from None
    if node is None:
        raise UsageError(f"the {key} is empty", where=str(file))
    return Node(file=file, node=node, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A YAML node with its place, read by asking for what it should be."""

    file: Path
    node: yaml.Node
    key: str

    @property
    def where(self) -> str:
        return f"{self.file}:{self.node.start_mark.line + 1}"

    def wrong(self, wanted: str) -> UsageError:
        kinds = {yaml.ScalarNode: "the value", yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
        got = kinds[type(self.node)]
        shown = f" {self.node.value!r}" if isinstance(self.node, yaml.ScalarNode) else ""
        return UsageError(f"`{self.key}` must be {wanted}, not {got}{shown}", where=self.where)

    def mapping(self, known: Sequence[str] | None = None, required: Sequence[str] = ()) -> dict[str, Node]:
        """Its entries; keys outside `known`, keys given twice and missing `required` ones are refused."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong("a mapping")
        found: dict[str, Node] = {}
        for key_node, value_node in self.node.value:
            key = str(key_node.value)
            where = f"{self.file}:{key_node.start_mark.line + 1}"
            if known is not None and key not in known:
                near = get_close_matches(key, known, n=1)
                raise UsageError(f"unknown key `{key}` in `{self.key}`", where=where,
                                 hint=f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}")
            if key in found:
                raise UsageError(f"`{key}` is given twice in `{self.key}`", where=where)
            found[key] = Node(file=self.file, node=value_node, key=key)
        for key in required:
            if key not in found:
                raise UsageError(f"`{self.key}` lacks `{key}`", where=self.where)
        return found

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands where a value could, as after `key:`."""
        return self.node.tag == "tag:yaml.org,2002:null"

    def items(self) -> tuple[Node, ...]:
        """Its elements, at least one; a single value counts as a list of one.

        An empty list is refused: a claim with no variant would be judged nowhere, and nobody would notice.
        """
        if isinstance(self.node, yaml.SequenceNode):
            if not self.node.value:
                raise UsageError(f"`{self.key}` is an empty list", where=self.where,
                                 hint="put something in, or leave the key out")
            return tuple(Node(file=self.file, node=child, key=self.key) for child in self.node.value)
        if isinstance(self.node, yaml.ScalarNode):
            return (self,)
        raise self.wrong("a list")

    def text(self) -> str:
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag == "tag:yaml.org,2002:null":
            raise self.wrong("text")
        return str(self.node.value)

    def path(self) -> Path:
        """Its text as a path, with `~` resolved; what can be none is refused."""
        try:
            path = Path(self.text()).expanduser()
        except RuntimeError:
            raise self.wrong("a path in the home of a user of this host") from None
        if "\0" in str(path) or any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
            raise self.wrong("a path")
        return path

    def texts(self) -> tuple[str, ...]:
        return tuple(item.text() for item in self.items())

    def integer(self, least: int, most: int | None = None) -> int:
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != "tag:yaml.org,2002:int":
            raise self.wrong("a whole number")
        try:
            value = int(self.node.value, 0)
        except ValueError:
            raise self.wrong("a whole number") from None
        if value < least:
            raise UsageError(f"`{self.key}` must be at least {least}, not {value}", where=self.where)
        if most is not None and value > most:
            raise UsageError(f"`{self.key}` must be at most {most}, not {value}", where=self.where)
        return value

    def flag(self) -> bool:
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != "tag:yaml.org,2002:bool":
            raise self.wrong("true or false")
        return str(self.node.value).lower() in ("true", "yes", "on")

    def matching(self, pattern: str, wanted: str) -> str:
        value = self.text()
        if not re.fullmatch(pattern, value, re.ASCII):
            raise self.wrong(wanted)
        return value

    def choice(self, known: Sequence[_Word]) -> _Word:
        value = self.text()
        for word in known:
            if word == value:
                return word
        raise self.wrong(f"one of {', '.join(known)}")
