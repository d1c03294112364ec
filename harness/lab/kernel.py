# SPDX-License-Identifier: GPL-2.0-only
"""Pure: what a test may ask about the kernel that it runs on."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"^CONFIG_(\w+)=(.*)$", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The kernel under test.

    Attributes:
        tree: `base` or `patched`.
        variant: the name of its configuration.
        config: its options that are set, `y` and `m` and values.
    """

    tree: str
    variant: str
    config: frozenset[tuple[str, str]]

    def has(self, option: str) -> bool:
        """Whether an option, without `CONFIG_`, is built in or a module."""
        return bool({(option, "y"), (option, "m")} & self.config)

    def lacks(self, options: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `options` that it does not have; of `A|B` one will do."""
        return tuple(option for option in options if not any(map(self.has, option.split("|"))))

    def why_not(self, options: tuple[str, ...]) -> str:
        """Why what needs `options` (`lacks`) cannot run on it; empty where it can."""
        lacking = self.lacks(options)
        return "the kernel lacks " + ", ".join(
            " or ".join(f"CONFIG_{name}" for name in option.split("|")) for option in lacking) if lacking else ""

    @property
    def patched(self) -> bool:
        """Whether the series is applied."""
        return self.tree == "patched"


def parse_config(text: str) -> frozenset[tuple[str, str]]:
    """The options that a `.config` sets."""
    return frozenset(_LINE.findall(text))
