# SPDX-License-Identifier: GPL-2.0-only
"""The `claims:` of a plan to values: which keys go with which check, and what must be said."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from harness import arch as arches
from harness.claims import EXPECTATIONS, Check, Claim, LayoutStatement
from harness.compare.size import FIGURES
from harness.errors import UsageError
from harness.plan.node import Node

TAG = r"[A-Za-z_]\w*"
HEADER = r"[\w.+-][\w.+/-]*"
"""What the tag of a structure and the name of a header may be: nothing that ends the C line it is put into."""


def read_claims(node: Node, variants: tuple[str, ...], compared: tuple[str, ...], arch: str,
                suites: Mapping[str, tuple[str, ...]]) -> tuple[Claim, ...]:
    """The claims of a plan that are about kernels for `arch`.

    Args:
        variants: what the plan has.
        compared: those of them whose base is built, too: claims on anything but tests are about these.
        suites: the variants that the plan runs each of its suites on.

    Raises:
        UsageError: one says what cannot be judged.
    """
    read = [(_claim(name, entry, variants, suites), _about(entry), entry) for name, entry in node.mapping().items()]
    for claim, _, entry in read:
        alone = [variant for variant in claim.variants if variant not in compared]
        if alone and claim.check is not Check.TESTS:
            raise UsageError(f"claim {claim.id} compares base with patched, but variant {alone[0]} has no base",
                             where=entry.where, hint="it says `only: patched`")
    return tuple(claim for claim, about, _ in read if arch in about)


def _about(node: Node) -> tuple[str, ...]:
    """The architectures that a claim is about: all, where it does not say."""
    entries = node.mapping()
    return tuple(item.choice(arches.names()) for item in entries["arch"].items()) if "arch" in entries \
        else arches.names()


_MOST_BYTES = 1 << 31
_CLAIM_KEYS: Mapping[str, Check] = {
    "objects": Check.OBJDIFF, "tests": Check.TESTS, "margin": Check.SIZE, "of": Check.SIZE, "w": Check.BUILDS,
    **dict.fromkeys(("struct", "header", "size_delta", "member", "fills_hole"), Check.LAYOUT),
}
"""Keys of a claim that mean something to one check only."""


def _claim(name: str, node: Node, variants: tuple[str, ...], suites: Mapping[str, tuple[str, ...]]) -> Claim:
    entries = node.mapping(("says", "check", "variants", "arch", "expect", *_CLAIM_KEYS),
                           required=("says", "check", "variants"))
    check = Check(entries["check"].choice(tuple(Check)))
    expected = EXPECTATIONS[check]
    if check is Check.TESTS and "tests" not in entries:
        raise UsageError(f"claim {name} is checked by tests but names none", where=node.where)
    for key, of in _CLAIM_KEYS.items():
        if key in entries and of is not check:
            raise UsageError(f"`{key}` means nothing in a claim that is checked by {check}", where=entries[key].where)
    expect = entries["expect"].choice(expected) if "expect" in entries else expected[0]
    for key, word in (("objects", "identical"), ("margin", "equal")):
        if key in entries and expect == word:
            raise UsageError(f"`{key}` means nothing in a claim that expects {word}", where=entries[key].where)
    where = tuple(item.choice(variants) for item in entries["variants"].items())
    return Claim(id=name, says=entries["says"].text(), check=check, variants=where, expect=expect,
                 objects=entries["objects"].texts() if "objects" in entries else (),
                 tests=tuple(_test(item, where, suites) for item in entries["tests"].items()) if "tests" in entries
                 else (),
                 margin=entries["margin"].integer(0) if "margin" in entries else 0,
                 of=entries["of"].choice(FIGURES) if "of" in entries else "text",
                 extra_warnings=str(entries["w"].integer(1)) if "w" in entries else "",
                 layout=_layout(name, node, entries, expect) if check is Check.LAYOUT else None)


def _test(node: Node, variants: tuple[str, ...], suites: Mapping[str, tuple[str, ...]]) -> str:
    """A suite or a test of one, that the plan runs on all these variants."""
    name = node.text()
    file = name.partition("::")[0]
    if file not in suites:
        near = get_close_matches(file, suites, n=1)
        raise UsageError(f"{file} is no suite of this plan", where=node.where,
                         hint=f"did you mean {near[0]}?" if near else f"suites: {', '.join(suites) or 'none'}")
    for variant in variants:
        if variant not in suites[file]:
            raise UsageError(f"the plan does not run {file} on {variant}", where=node.where,
                             hint=f"it does on {', '.join(suites[file])}")
    return name


def _layout(name: str, node: Node, entries: Mapping[str, Node], expect: str) -> LayoutStatement:
    for key in ("struct", "header"):
        if key not in entries:
            raise UsageError(f"claim {name} is checked by layout but lacks `{key}`", where=node.where)
    said = LayoutStatement(
        struct=entries["struct"].matching(TAG, "the tag of a structure, as `sk_buff`"),
        headers=tuple(item.matching(HEADER, "a header, as `linux/skbuff.h`") for item in entries["header"].items()),
        size_delta=entries["size_delta"].integer(-_MOST_BYTES) if "size_delta" in entries else None,
        member=entries["member"].matching(r"[A-Za-z_][\w.\[\]]*", "a member's name") if "member" in entries else "",
        fills_hole="fills_hole" in entries and entries["fills_hole"].flag())
    if said.fills_hole and not said.member:
        raise UsageError(f"claim {name} says `fills_hole` but not which `member`", where=entries["fills_hole"].where)
    if said.fills_hole and not said.member.isidentifier():
        raise UsageError("`fills_hole` needs a `member` of the structure itself", where=entries["member"].where,
                         hint="a member of an anonymous structure or union counts as one; name it without a path")
    if said.size_delta is None and not said.member and expect == "as-stated":
        raise UsageError(f"claim {name} states nothing that can be checked", where=node.where,
                         hint="say `size_delta`, `member` (with `fills_hole: true`), or `expect: identical`")
    return said
