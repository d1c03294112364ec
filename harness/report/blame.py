# SPDX-License-Identifier: GPL-2.0-only
"""A walked series in words for a terminal 80 columns wide, as rows of a run, and as JSON (docs/results.md). Pure."""

from __future__ import annotations

from harness.claims import Check, Claim, Row, Verdict
from harness.compare.blame import Kind, Origin, Touch, count
from harness.compare.size import FIGURES, Figure, SizeDelta
from harness.errors import KernelError
from harness.jobs.blame import Blame, Walked
from harness.report.model import clean

SCHEMA = "harness.blame/1"
"""Version of the JSON form; the number grows when a reader of the old form would misread the new one."""

_SUBJECT = 44
_TOP = 3
_DETAIL = 40


def lines(blame: Blame, limit: int | None = 20) -> list[str]:
    """The result in lines: a table of the patches, then where each function and datum first changed.

    Args:
        limit: most lines of functions and data; a line says how many more there are. All where None.
    """
    found = [f"{blame.variant}: {_many(len(blame.patches), 'patch', 'patches')}", "", *_table(blame, limit is not None)]
    first, back = origin_lines(blame), back_lines(blame)
    for title, rows in (("What first changed where:", first), ("Changed back since:", back)):
        if rows:
            found += ["", title, *rows[:limit]]
            if limit is not None and len(rows) > limit:
                found.append(f"... and {len(rows) - limit:,} more (--all shows them)")
    return found


def _table(blame: Blame, cut: bool) -> list[str]:
    found = [f"{'#':>4} {'objects':>7} {'functions':>9} {'data':>5} {'text':>7}  patch"]
    for row in blame.patches:
        subject = clean(row.subject)
        said = f"{subject[:_SUBJECT - 3]}..." if cut and len(subject) > _SUBJECT else subject
        if row.step is None:
            found += [f"{row.number:4} {'does not build':>31}  {said}", *(f"     {text}" for text in _why(row))]
            continue
        objects, functions, data = count(row.step.comparison)
        others = Touch(first=row.step.first, last=row.step.last - 1, verb="changed")
        since = f" (with {_numbers(others)})" if others.first <= others.last else ""
        found.append(f"{row.number:4} {objects:7,} {functions:9,} {data:5,} {_text(row.step.size):>7}  {said}{since}")
    if blame.net is not None:
        objects, functions, data = count(blame.net)
        until = "base to patched" if blame.until == len(blame.patches) else f"base to patch {blame.until}"
        found.append(f"{'all':>4} {objects:7,} {functions:9,} {data:5,} {_text(blame.size):>7}  {until}")
    return found


def _text(size: SizeDelta | None) -> str:
    return "?" if size is None else f"{size.text:+,}" if size.text else "0"


def _why(row: Walked) -> tuple[str, ...]:
    assert row.error is not None
    return tuple(clean(text) for text in (row.error.what, *row.error.detail))


def origin_lines(blame: Blame) -> list[str]:
    """A line for each function and datum that differs between the ends, and each object with neither of them."""
    named = {origin.place.path for origin in blame.origins if origin.net and origin.place.kind != "object"}
    return [f"{_place(origin)} {_first(blame, origin)}" for origin in blame.origins
            if origin.net and (origin.place.kind != "object" or origin.place.path not in named)]


def back_lines(blame: Blame) -> list[str]:
    """A line for each place that some patch changed and that does not differ between the ends."""
    named = {origin.place.path for origin in blame.origins if not origin.net and origin.place.kind != "object"}
    found = []
    for origin in blame.origins:
        if origin.net or (origin.place.kind == "object" and origin.place.path in named):
            continue
        back = origin.back
        ending = f"changed back by {_patches(blame, back)}" if back else "not seen between the ends"
        found.append(f"{_place(origin)} {_first(blame, origin)}; {ending}")
    return found


def size_lines(blame: Blame, figure: Figure) -> list[str]:
    """A line for each patch that changed a size of vmlinux.o, with the symbols that did most of it."""
    found = []
    for row in blame.patches:
        size = row.step.size if row.step is not None else None
        if row.step is not None and size is not None and size.growth(figure):
            top = [f"{one.name} {one.delta:+,}" for one in (size.symbols.symbols if size.symbols else ())[:_TOP]]
            touch = Touch(first=row.step.first, last=row.step.last, verb="changed")
            found.append(f"{figure} {size.growth(figure):+,} with {_patches(blame, touch)}"
                         + (f" ({', '.join(top)})" if top else ""))
    return found


def for_claim(blame: Blame, claim: Claim) -> list[str]:
    """What the detail of a failed claim has to say: each patch's part for a size, else each function's first patch."""
    said = size_lines(blame, claim.of) if claim.check is Check.SIZE else []
    first, back = origin_lines(blame), back_lines(blame)
    said += first[:_DETAIL]
    if len(first) > _DETAIL:
        said.append(f"... and {len(first) - _DETAIL} more in blame/{blame.variant}.txt")
    if back:
        said.append(f"{len(back)} more changed and changed back, like {back[0]}")
    return said


def rows(blame: Blame) -> list[Row]:
    """A failed row for each patch after which the kernel does not build."""
    return [Row(kind="step", id=f"patch {row.number} of {len(blame.patches)}", variant=blame.variant,
                verdict=Verdict.FAIL, evidence=f"{row.error.what}: {row.subject}", detail=row.error.detail)
            for row in blame.broken if isinstance(row.error, KernelError)]


def _place(origin: Origin) -> str:
    path, _kind, name = origin.place
    return f"{path}: {name}" if name else f"{path}:"


def _first(blame: Blame, origin: Origin) -> str:
    if not origin.touches:
        return "changed by no single patch, only by all together"
    first, *later = origin.touches
    verb = {"changed": "first changed by", "new": "new with", "gone": "gone with"}[first.verb]
    again = [_numbers(touch) for touch in (later if origin.net or origin.back is None else later[:-1])]
    return f"{verb} {_patches(blame, first)}" + (f"; again by {', '.join(again)}" if again else "")


def _numbers(touch: Touch) -> str:
    return f"{touch.first}" if touch.first == touch.last else f"{touch.first}-{touch.last}"


def _patches(blame: Blame, touch: Touch) -> str:
    """`patch 3 of 8: its subject`; of several that only build together, all subjects."""
    subjects = "; ".join(clean(blame.patches[number - 1].subject) for number in range(touch.first, touch.last + 1))
    return f"patch{'es' * (touch.first < touch.last)} {_numbers(touch)} of {len(blame.patches)}: {subjects}"


def _many(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def to_json(blame: Blame) -> dict[str, object]:
    """The whole result as JSON values."""
    kinds: tuple[tuple[str, Kind], ...] = (("functions", "function"), ("data", "datum"), ("objects", "object"))
    return {
        "schema": SCHEMA, "variant": blame.variant, "until": blame.until,
        "patches": [_patch(row) for row in blame.patches],
        "net": None if blame.net is None else {
            "identical_code": blame.net.identical_code, **_counts(count(blame.net)), **_growth(blame.size)},
        **{name: [_origin(origin) for origin in blame.origins if origin.place.kind == kind] for name, kind in kinds},
    }


def _patch(row: Walked) -> dict[str, object]:
    value: dict[str, object] = {"number": row.number, "subject": clean(row.subject), "built": row.build is not None}
    if row.error is not None:
        return {**value, "error": clean(row.error.what), "detail": [clean(text) for text in row.error.detail]}
    assert row.step is not None
    assert row.build is not None
    return {**value, "since": row.step.first, **_counts(count(row.step.comparison)), **_growth(row.step.size),
            "identical_code": row.step.comparison.identical_code, "build": str(row.build.out),
            "compiled": row.build.rebuilt, "seconds": round(row.build.seconds, 1), "seed": row.build.seed,
            "reused": row.build.reused}


def _counts(counted: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("objects_changed", "functions_changed", "data_changed"), counted, strict=True))


def _growth(size: SizeDelta | None) -> dict[str, object]:
    return {"vmlinux.o": None if size is None else {figure: size.growth(figure) for figure in FIGURES}}


def _origin(origin: Origin) -> dict[str, object]:
    value: dict[str, object] = {"object": origin.place.path}
    if origin.place.kind != "object":
        value["name"] = origin.place.name
    return {**value, "net": origin.net, "changed_back": origin.back is not None, "patches": [
        {"first": touch.first, "last": touch.last, "change": touch.verb} for touch in origin.touches]}
