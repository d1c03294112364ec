# SPDX-License-Identifier: GPL-2.0-only
"""Proves by compiling that an object which differs did not change: only its line numbers did, or only its layout.

`lines`: the patched tree's object is compiled again with `#line` directives that give every line the number it has in
base (`compare.relines`). It must come out as base's object, byte for byte; local names that carry a `__COUNTER__` may
still differ under the rules for names, nothing else may. That alone says that the *source* means the same but for its
line numbers. So that code which depends on them (`if (__LINE__ > 100)`) is not taken for noise, the two objects as
they were built must also differ in nothing but fields that hold the numbers of moved lines, and in what rules explain.

`sections`: both sides are compiled again with a section of its own for each function and datum, and compared by symbol
(`compare.sections`). Where that leaves a difference, the patched side is compiled so with base's line numbers, too, and
the same two things are asked as for `lines`.

`parts`: an object that `ld -r` made of parts that are all identical or proved: the patched side's command, objtool's
part included, makes base's object when it is given base's parts.

`offsets`: the boot header of x86, which speaks of the compressed kernel: the patched object, assembled again with the
generated file that says where base's unpacker has what, must be base's object, byte for byte; and on either side that
file must say what the unpacker has, and the object be made of equal files by equal commands.

The control: compiled again unchanged, an object must be the build's own, byte for byte (debug information aside, which
names folders), or the proof is void. For `sections` that is asked of each object and both sides, for `offsets` of the
patched object. For `lines` it is asked of the first object of a comparison. Of each it would say no more: base's bytes
cannot come from a wrong command, and that the patched object is no other is what the second half of that proof shows.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.compare import boot_header, elf, noise, pair, sections
from harness.compare.naming import stem
from harness.compare.relines import reline
from harness.compare.values import Comparison, ObjectDelta
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, KernelError
from harness.jobs.again import DEBUG, VOID, Side, void
from harness.kernel import recompile
from harness.kernel.recompile import Job

_LATE = "no proof in time"
_SOURCES = (".c", ".h", ".S")
_BATCH = {"explained": 32, "changed": 4}
"""How many objects are compiled before the next ones are thought of, by status: enough to keep all cores busy, and of
the changed ones, after which it may be over, not many more."""

_APART = ("-ffunction-sections", "-fdata-sections", "-g0")
"""Options that give each function and datum a section, and leave out debug information: it names lines and folders."""

_NAMES = DEBUG | {rule.rule for rule in noise.NAME_RULES}
"""Rules that may explain what differs between base's object and the renumbered one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proof:
    """A proof under way. `shown`: files of the patched tree with the line numbers of base; `moves`: of all lines."""

    base: Side
    patched: Side
    shown: Mapping[str, Path]
    moves: noise.Moves
    deadline: Deadline


def prove(comparison: Comparison, base: Side, patched: Side, differing: Iterable[str], *, deadline: Deadline,
          counted: Callable[[int], None] = lambda _: None) -> Comparison:
    """A comparison with its explained objects proved, and its changed ones explained where a proof shows it.

    First the explained objects are tried, then the changed ones, a few at a time. As soon as it is clear that
    something did change (an object, section or symbol is on one side only, an archive lists other members, an object
    stays changed), no proof could make the kernels equal any more, and the others are left as they are (and say so).

    Args:
        comparison: of these two sides; a strict one is returned as it is.
        differing: paths of the files that differ between the two trees.
        counted: told the number of objects dealt with so far, as they come.
    """
    tried = [delta for delta in comparison.deltas if delta.status == "explained"]
    tried += [delta for delta in comparison.deltas if delta.status == "changed" and delta.path.endswith(".o")]
    if comparison.strict or not tried:
        return comparison
    with tempfile.TemporaryDirectory(prefix="harness-proof-") as folder:
        shown, moves = _renumbered(base, patched, differing, Path(folder))
        proof = _Proof(base=base, patched=patched, shown=shown, moves=moves, deadline=deadline)
        found = _tried(proof, comparison, tried, counted)
    judged = {**{delta.path: delta for delta in comparison.deltas}, **found}
    try:
        found.update({path: _by_parts(proof, delta, judged) for path, delta in found.items()})
    except DeadlineExpired as late:
        linked = [delta for delta in found.values() if _parts(proof, delta.path)]
        found.update(_noted(linked, f"{_LATE}: {late.what}"))
    return comparison.replaced(found)


def saved(found: Comparison) -> str | None:
    """What a proof came to, as text for `restored`; None where another try could say more (late, or void)."""
    tried = [delta for delta in found.deltas if delta.proof_note or delta.proof]
    if any(delta.proof_note.startswith((_LATE, VOID)) for delta in tried):
        return None
    return json.dumps([[delta.path, delta.status, delta.rules, delta.proof, delta.proof_note] for delta in tried])


def restored(comparison: Comparison, text: str) -> Comparison:
    """A comparison of the same two builds, judged as in `saved`."""
    known = {delta.path: delta for delta in comparison.deltas}
    return comparison.replaced({
        path: replace(known[path], status=status, rules=tuple(rules), proof=how, proof_note=note,
                      changes=() if status == "explained" else known[path].changes)
        for path, status, rules, how, note in json.loads(text)})


def _renumbered(base: Side, patched: Side, differing: Iterable[str],
                folder: Path) -> tuple[dict[str, Path], noise.Moves]:
    """Files of the patched tree that have other line numbers than in base, with directives, by path."""
    shown: dict[str, Path] = {}
    moves: set[tuple[int, int]] = set()
    for name in sorted(name for name in differing if name.endswith(_SOURCES)):
        old, new = base.file(name), patched.file(name)
        # one byte, one character: what the files are encoded in does not matter here
        made = None if old is None or new is None else reline(old.decode("latin-1"), new.decode("latin-1"))
        if made is None or new is None or not made.moves:
            continue
        path = folder / str(len(shown))
        path.write_bytes(made.text.encode("latin-1"))
        shown[name] = path
        moves |= made.moves
    return shown, frozenset(moves)


def _tried(proof: _Proof, comparison: Comparison, deltas: Sequence[ObjectDelta],
           counted: Callable[[int], None]) -> dict[str, ObjectDelta]:
    """The objects judged anew, in order; those after the first that stays changed are only told why not."""
    found: dict[str, ObjectDelta] = {}
    settled = "objects on one side only, or another order or script of the link" if (
        comparison.only_base or comparison.only_patched or comparison.archives_changed
        or comparison.link_scripts_changed) else next(
            (f"{delta.path} did change" for delta in deltas if _came_or_went(delta)), "")
    try:
        void = _control(proof, [delta.path for delta in deltas])
        while len(found) < len(deltas):
            status = deltas[len(found)].status
            batch = [delta for delta in deltas[len(found):][:_BATCH[status]] if delta.status == status]
            if void:
                found.update(_noted(batch, void))
            elif settled and status == "changed":
                found.update(_noted(batch, f"no proof was tried: {settled}"))
            else:
                found.update({delta.path: delta for delta in _judged(proof, batch)})
                # those that are linked of others are judged at last, by what they are linked of
                left = [delta.path for delta in batch if found[delta.path].status == "changed"
                        and recompile.linked_of(proof.patched.out, delta.path) is None]
                settled = settled or (f"{left[0]} did change" if left else "")
            counted(len(found))
    except DeadlineExpired as late:
        found.update(_noted([delta for delta in deltas if delta.path not in found], f"{_LATE}: {late.what}"))
    return found


def _noted(deltas: Sequence[ObjectDelta], note: str) -> dict[str, ObjectDelta]:
    return {delta.path: replace(delta, proof_note=note) for delta in deltas}


def _control(proof: _Proof, names: Sequence[str]) -> str:
    """Why no proof holds here; empty when the first object for one by lines, unchanged, comes out as it was built."""
    name = next((name for name in names if not _unsuited(proof, name)), None)
    if name is None:
        return ""
    made, = proof.patched.again([Job(object=name)], proof.deadline, {})
    return "" if proof.patched.is_own(name, made) else void(proof.patched, name, made)


def _judged(proof: _Proof, deltas: Sequence[ObjectDelta]) -> list[ObjectDelta]:
    """Some objects, each with a proof or with why there is none."""
    why = {delta.path: _unsuited(proof, delta.path) for delta in deltas}
    jobs = [Job(object=path) for path, reason in why.items() if not reason]
    made = dict(zip([job.object for job in jobs], proof.patched.again(jobs, proof.deadline, proof.shown), strict=True))
    found = [_by_lines(proof, delta, made[delta.path]) if delta.path in made
             else replace(delta, proof_note=why[delta.path]) for delta in deltas]
    return [_by_more(proof, delta) for delta in found]


def _by_more(proof: _Proof, delta: ObjectDelta) -> ObjectDelta:
    """An object that no proof by lines was found for."""
    if delta.proof == "lines" or not all(side.compiled(delta.path) for side in (proof.base, proof.patched)):
        return delta
    if delta.path == boot_header.PATH:
        return _by_offsets(proof, delta)
    return _by_sections(proof, delta) if delta.status == "changed" else delta


def _unsuited(proof: _Proof, name: str) -> str:
    """Why an object cannot have a proof by line numbers."""
    if not proof.patched.compiled(name):
        return "it was not compiled from a source file of the tree"
    if proof.shown.keys().isdisjoint(proof.patched.files_of(name)):
        return "no line moved in the files it is made from"
    return ""


def _by_lines(proof: _Proof, delta: ObjectDelta, made: bytes | KernelError) -> ObjectDelta:
    """An object's verdict by what it is with the line numbers of base."""
    if isinstance(made, KernelError):
        why = made.detail[-1] if made.detail else made.what
        return replace(delta, proof_note=f"with the line numbers of base it does not compile: {why}")
    base = elf.parse(proof.base.object(delta.path), f"base {delta.path}")
    how = "byte for byte base's object with base's line numbers"
    if made != base.data:
        found = pair.diff(delta.path, base, elf.parse(made, delta.path), strict=False)
        if found.changes or not found.sites.keys() <= _NAMES:
            return replace(delta, proof_note="with the line numbers of base it is still another object")
        rules = sorted(found.sites.keys() - DEBUG)
        said = [*(["debug information"] if "debug-sections" in found.sites else []),
                *([f"numbers in names ({', '.join(rules)})"] if rules else [])]
        how = f"base's object with base's line numbers, but for {' and '.join(said or ['the encoding of the file'])}"
    patched = elf.parse(proof.patched.object(delta.path), f"patched {delta.path}")
    if delta.status == "changed" and pair.diff(delta.path, base, patched, strict=False, moves=proof.moves).changes:
        return replace(delta, proof_note=f"{how}; but as built, more than line numbers differs")
    return replace(delta, status="explained", changes=(), proof="lines", proof_note=how)


def _came_or_went(delta: ObjectDelta) -> bool:
    """Whether something is on one side only that neither lines nor layout bring about; names with numbers may."""
    return any(change.kind in ("header", "group", "file") or (
        change.kind in ("section", "symbol") and not (change.base and change.patched)
        and (change.symbol is None or stem(change.symbol) == change.symbol)) for change in delta.changes)


def _by_sections(proof: _Proof, delta: ObjectDelta) -> ObjectDelta:
    """An object's verdict by what its functions and data are one by one."""
    plain, apart = Job(object=delta.path), Job(object=delta.path, flags=_APART)
    made = [side.again([plain, apart], proof.deadline, {}) for side in (proof.base, proof.patched)]
    for side, (control, _) in zip((proof.base, proof.patched), made, strict=True):
        if not side.is_own(delta.path, control):
            return replace(delta, proof_note=void(side, delta.path, control))
    (_, base), (_, patched) = made
    if isinstance(base, KernelError) or isinstance(patched, KernelError):
        return replace(delta, proof_note=f"it does not compile with {' '.join(_APART)}")
    differs = _differ(delta.path, base, patched)
    how = "by symbol it is base's object"
    if differs and proof.shown:
        renumbered, = proof.patched.again([apart], proof.deadline, proof.shown)
        if isinstance(renumbered, bytes) and not _differ(delta.path, base, renumbered):
            differs = _differ(delta.path, base, patched, proof.moves)
            how += " with base's line numbers"
    if differs:
        return replace(delta, proof_note=f"{delta.proof_note}; compared by symbol it differs: {differs}".lstrip("; "))
    return replace(delta, status="explained", changes=(), proof="sections", proof_note=how)


def _by_offsets(proof: _Proof, delta: ObjectDelta) -> ObjectDelta:
    """The boot header's verdict by what it is for base's compressed kernel.

    It is made of the same text by the same command on both sides: nothing in it can do one thing at base's offsets and
    another one at its own.
    """
    names = sorted(proof.base.files_of(delta.path) | proof.patched.files_of(delta.path))
    other = [name for name in names if proof.base.file(name) != proof.patched.file(name)]
    if other or proof.base.command(delta.path) != proof.patched.command(delta.path):
        return replace(delta, proof_note=f"{other[0] if other else 'the command that makes it'} differs")
    wrong = [side for side in (proof.base, proof.patched) if not boot_header.offsets_hold(side.out)]
    if wrong:
        return replace(delta, proof_note=f"{boot_header.OFFSETS} is not what the unpacker has in {wrong[0].out}")
    job = [Job(object=delta.path)]
    control, = proof.patched.again(job, proof.deadline, {})
    if not proof.patched.is_own(delta.path, control):
        return replace(delta, proof_note=void(proof.patched, delta.path, control))
    made, = proof.patched.again(job, proof.deadline, {}, {boot_header.OFFSETS: proof.base.out / boot_header.OFFSETS})
    if not proof.base.is_own(delta.path, made):
        return replace(delta, proof_note="with the offsets of base's compressed kernel it is still another object")
    return replace(delta, status="explained", changes=(), proof="offsets",
                   proof_note="with the offsets of base's compressed kernel it is base's object")


def _differ(name: str, base: bytes, patched: bytes, moves: noise.Moves = frozenset()) -> str:
    return sections.difference(elf.parse(base, f"base {name}"), elf.parse(patched, f"patched {name}"), moves)


def _by_parts(proof: _Proof, delta: ObjectDelta, judged: Mapping[str, ObjectDelta]) -> ObjectDelta:
    """An object that was linked of others: proved when they are, and of base's parts it is linked to base's object."""
    parts = _parts(proof, delta.path)
    if not parts or delta.status not in ("explained", "changed"):
        return delta
    found = [judged.get(name) for name in parts]
    if not all(part and (part.status == "identical" or part.proof in ("lines", "sections") or (
            part.proof == "rule" and DEBUG.issuperset(part.rules))) for part in found):
        return replace(delta, proof_note="not all objects it is linked of are proved")
    base, patched = proof.base, proof.patched
    made = recompile.relink(patched.out, patched.tree, delta.path, deadline=proof.deadline, at=patched.at,
                            parts={name: (base.objects or base.out) / name for name in parts})
    if not base.is_own(delta.path, made):
        return replace(delta, proof_note="linked of base's parts as the patched object was, it is not base's object")
    return replace(delta, status="explained", changes=(), proof="parts",
                   proof_note=f"linked of base's parts it is base's object; all {len(parts)} are identical or proved")


def _parts(proof: _Proof, name: str) -> tuple[str, ...]:
    """The objects that both sides linked an object of; none where they are not the same, or it was not linked."""
    linked = [recompile.linked_of(side.out, name) for side in (proof.base, proof.patched)]
    return linked[0][1] if linked[0] and linked[1] and linked[0][1] == linked[1][1] else ()
