# SPDX-License-Identifier: GPL-2.0-only
"""The walk along a series: which patch changed what, on small objects in place of kernels."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.claims import Check, Claim, Verdict
from harness.cli.main import cli
from harness.compare.blame import Place, Step, Touch, attribute, count, places
from harness.compare.objdiff import compare
from harness.compare.owners import LINES
from harness.compare.values import Change, Comparison, ObjectDelta
from harness.deadline import Deadline
from harness.errors import InfraError, KernelError
from harness.jobs import builds
from harness.jobs.blame import Blame, walk
from harness.kernel.kbuild import Build
from harness.kernel.kconfig import Config
from harness.kernel.series import Patch
from harness.kernel.tree import Content, Tree
from harness.proc import run
from harness.report import blame as report
from tests.conftest import PLAN

A, B, C = "int a(int x) { return x; }", "int b(int x) { return x * 3; }", "const int c[2] = {1, 2};"
A2, B2 = "int a(int x) { return x + 1; }", "int b(int x) { return x * 5; }"
Sources = Mapping[str, str]


def make_build(folder: Path, sources: Sources) -> Path:
    """A build folder with an object for each source, and a vmlinux.o of all."""
    folder.mkdir(parents=True)
    for name, text in sources.items():
        file = folder / f"{name}.c"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        run(["gcc", "-O2", "-ffreestanding", "-fno-pic", "-fno-asynchronous-unwind-tables", "-falign-functions=64",
             "-c", f"{name}.c", "-o", f"{name}.o"], cwd=folder, deadline=Deadline.after(60))
    run(["ld", "-r", "-z", "muldefs", "-o", "vmlinux.o", *(f"{name}.o" for name in sources)], cwd=folder,
        deadline=Deadline.after(60))
    return folder


def walked(tmp_path: Path, *steps: Sources | KernelError) -> Blame:
    """A walk over kernels made of `steps`, base first; an error stands for a patch that does not build."""
    seeds: list[str] = []

    def make(tree: Tree, seed: Build | None) -> Build:
        step = steps[len(tree.patches)]
        if isinstance(step, KernelError):
            raise step
        if seed is not None:
            seeds.append(f"{seed.tree} -> {tree.name}")
        out = make_build(tmp_path / tree.name, step)
        return Build(tree=tree.name, variant="v", key="", out=out, image=out / "x", vmlinux=out / "x", log=out / "x",
                     config=Config(variant="v", text="", asked=()), seconds=1.0, seed="", rebuilt=1, reused=False,
                     warnings={}, content=Content(source="", files={}, removed=()))

    patches = tuple(Patch(path=Path("p"), subject=f"subject {number}", text=b"", touches=())
                    for number in range(1, len(steps)))
    trees = [Tree(name=f"t{number}", source=None, patches=patches[:number])  # type: ignore[arg-type]
             for number in range(len(steps))]
    found = walk("v", trees, make, progress=lambda _: None)
    good = [number for number, step in enumerate(steps) if not isinstance(step, KernelError)]
    assert seeds == [f"t{one} -> t{other}" for one, other in itertools.pairwise(good)], \
        "each step starts from the one before it"
    return found


def origin(blame: Blame, path: str, name: str) -> tuple[tuple[int, ...], bool, bool]:
    """The patches that changed a function or datum, whether it differs in the end, whether it was changed back."""
    (one,) = [row for row in blame.origins if (row.place.path, row.place.name) == (path, name)]
    return tuple(touch.first for touch in one.touches), one.net, one.back is not None


def test_each_function_is_laid_to_the_patch_that_first_changed_it(tmp_path: Path) -> None:
    blame = walked(tmp_path, {"net/x": A + B + C, "y": C}, {"net/x": A + B + C, "y": C}, {"net/x": A2 + B + C, "y": C},
                   {"net/x": A2 + B2 + C, "y": C + A})
    assert origin(blame, "net/x.o", "a") == ((2,), True, False)
    assert origin(blame, "net/x.o", "b") == ((3,), True, False)
    assert origin(blame, "y.o", "a") == ((3,), True, False)
    assert [count(row.step.comparison) for row in blame.patches if row.step] == [(0, 0, 0), (1, 1, 0), (2, 2, 0)]
    said = report.origin_lines(blame)
    assert "net/x.o: a first changed by patch 2 of 3: subject 2" in said
    assert "y.o: a new with patch 3 of 3: subject 3" in said
    assert len(said) == 3


def test_what_a_later_patch_changed_back_is_said_as_such(tmp_path: Path) -> None:
    blame = walked(tmp_path, {"x": A + B}, {"x": A2 + B2}, {"x": A2 + B}, {"x": A + B})
    assert origin(blame, "x.o", "a") == ((1, 3), False, True)
    assert origin(blame, "x.o", "b") == ((1, 2), False, True)
    assert report.origin_lines(blame) == []
    assert report.back_lines(blame) == [
        "x.o: a first changed by patch 1 of 3: subject 1; changed back by patch 3 of 3: subject 3",
        "x.o: b first changed by patch 1 of 3: subject 1; changed back by patch 2 of 3: subject 2"]


def test_changed_twice_is_laid_to_the_first_and_names_the_second(tmp_path: Path) -> None:
    blame = walked(tmp_path, {"x": A + B}, {"x": A2 + B}, {"x": A2.replace("1", "7") + B})
    assert origin(blame, "x.o", "a") == ((1, 2), True, False)
    assert report.origin_lines(blame) == ["x.o: a first changed by patch 1 of 2: subject 1; again by 2"]


def test_objects_and_data_that_come_and_go(tmp_path: Path) -> None:
    blame = walked(tmp_path, {"x": A + C, "y": B}, {"x": A + C, "y": B, "z": C}, {"x": A, "z": C})
    said = report.origin_lines(blame)
    assert "z.o: new with patch 1 of 2: subject 1" in said
    assert "y.o: gone with patch 2 of 2: subject 2" in said
    assert "x.o: c gone with patch 2 of 2: subject 2" in said


BROKEN = KernelError("it does not compile", detail=("x.c:1: error: on purpose\x1b[31m",))


def test_a_patch_that_does_not_build_is_a_result_and_the_walk_goes_on(tmp_path: Path) -> None:
    blame = walked(tmp_path, {"x": A + B}, {"x": A2 + B}, BROKEN, {"x": A2 + B2})
    assert [row.number for row in blame.broken] == [2]
    assert report.origin_lines(blame)[1] == "x.o: b first changed by patches 2-3 of 3: subject 2; subject 3"
    (row,) = report.rows(blame)
    assert (row.id, row.verdict, row.evidence) == ("patch 2 of 3", Verdict.FAIL, "it does not compile: subject 2")
    text = "\n".join(report.lines(blame))
    assert "does not build  subject 2" in text
    assert "x.c:1: error: on purpose\ufffd[31m" in text
    assert "subject 3 (with 2)" in text
    assert "\x1b" not in text + json.dumps(report.to_json(blame))


def test_the_last_patches_do_not_build(tmp_path: Path) -> None:
    blame = walked(tmp_path, {"x": A + B}, {"x": A2 + B}, BROKEN, BROKEN)
    assert (blame.until, [row.number for row in blame.broken]) == (1, [2, 3])
    assert report.origin_lines(blame) == ["x.o: a first changed by patch 1 of 3: subject 1"]
    assert "base to patch 1" in "\n".join(report.lines(blame))


def test_no_patch_builds(tmp_path: Path) -> None:
    blame = walked(tmp_path, {"x": A}, BROKEN)
    assert (blame.until, blame.net, blame.origins) == (0, None, ())
    assert "does not build" in "\n".join(report.lines(blame))
    assert json.loads(json.dumps(report.to_json(blame)))["net"] is None


def test_a_base_that_does_not_build_and_a_broken_lab_stop_the_walk(tmp_path: Path) -> None:
    with pytest.raises(KernelError):
        walked(tmp_path, BROKEN, {"x": A})
    with pytest.raises(InfraError):
        walk("v", [Tree(name="t", source=None)], lambda *_: _raise(), progress=lambda _: None)  # type: ignore[arg-type]


def _raise() -> Build:
    raise InfraError("the disk is full")


def empty(*paths: Sequence[str]) -> Comparison:
    return Comparison(base="", patched="", strict=False, objects=1, identical=1, explained=0, changed=0, only_base=0,
                      only_patched=0, archives=0, archives_changed=0, deltas=(), rules=(), excluded=(), seconds=0)


def test_nothing_that_differs_is_left_out(tmp_path: Path) -> None:
    """A difference between the ends that no step shows is listed with no patch, and one only a step shows, too."""
    a, b = (make_build(tmp_path / name, {"x": text}) for name, text in (("a", A + B), ("b", A2 + B)))
    (one, whole) = attribute([Step(first=1, last=1, comparison=empty())], compare(a, b))
    assert (one.place, one.touches, one.net) == (Place("x.o", "function", "a"), (), True)
    assert whole.place.kind == "object"
    (one, whole) = attribute([Step(first=1, last=1, comparison=compare(a, b))], empty())
    assert (one.touches, one.net, one.back) == ((Touch(first=1, last=1, verb="changed"),), False, None)


def test_a_function_that_only_moved_is_not_blamed(tmp_path: Path) -> None:
    longer = A.replace("return x;", "".join(f"x = x * {n} ^ {n};" for n in range(3, 40)) + "return x;")
    a, b = (make_build(tmp_path / name, {"x": text + B}) for name, text in (("a", A), ("b", longer)))
    assert [place.name for place in places(compare(a, b))] == ["", "a"]


@pytest.mark.parametrize(("section", "kind"), [
    (".text", "function"), (".text.unlikely", "function"), (".init.text", "function"), (".text\\x00#2", "function"),
    (".text32", "function"), (".data", "datum"), (".rodata.text", "datum"), ("__bug_table", "function"), ("UND", None),
    (".discard.addressable", None), ("___ksymtab+x", None), ("__ksymtab_strings", None),
])
def test_what_a_changed_symbol_is(section: str, kind: str | None) -> None:
    delta = ObjectDelta(path="x.o", status="changed",
                        changes=(Change(kind="size", section=section, symbol="s.1", base="1", patched="2"),))
    found = places(replace(empty(), deltas=(delta,)))
    assert [place.kind for place in found if place.name == "s"] == ([kind] if kind else [])


def test_another_line_number_in_a_bug_table_is_nobodys_change() -> None:
    said = Change(kind="bytes", section="__bug_table", symbol="f", base="1 entry", patched=f"1 entry {LINES}")
    delta = ObjectDelta(path="x.o", status="changed", changes=(said,))
    assert [place.name for place in places(replace(empty(), deltas=(delta,)))] == [""]


def test_the_detail_of_a_failed_claim(tmp_path: Path) -> None:
    grown = "int grown(int x) { return x; }"
    blame = walked(tmp_path, {"x": A + B}, {"x": A2 + B2}, {"x": A2 + B}, {"x": A2 + B + grown})
    same = Claim(id="C1", says="", check=Check.OBJDIFF, variants=("v",), expect="identical")
    *net, back = report.for_claim(blame, same)
    assert net == ["x.o: a first changed by patch 1 of 3: subject 1", "x.o: grown new with patch 3 of 3: subject 3"]
    assert back == f"1 more changed and changed back, like {report.back_lines(blame)[0]}"
    smaller = Claim(id="C2", says="", check=Check.SIZE, variants=("v",), expect="smaller")
    (line, *_) = report.for_claim(blame, smaller)
    assert line.startswith("text +")
    assert "with patch 3 of 3: subject 3 (grown +" in line


def test_words_fit_and_json_says_the_same(tmp_path: Path) -> None:
    many = "".join(f"int function_{n}(int x) {{ return x * {n}; }}" for n in range(30))
    blame = walked(tmp_path, {"x": A + B}, {"x": A2 + B}, {"x": A2 + B + many})
    table = report.lines(blame)
    assert max(map(len, table[:table.index("") + 6])) <= 80
    assert "... and 11 more (--all shows them)" in table
    assert len(report.lines(blame, limit=None)) > len(table)
    value = json.loads(json.dumps(report.to_json(blame)))
    assert value["schema"] == "harness.blame/1"
    assert [row["functions_changed"] for row in value["patches"]] == [1, 30]
    assert value["net"]["functions_changed"] == len(value["functions"]) == 31
    assert value["functions"][0] == {"object": "x.o", "name": "a", "net": True, "changed_back": False,
                                     "patches": [{"first": 1, "last": 1, "change": "changed"}]}


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = (walked(tmp_path / name, {"x": A + B}, *steps) for name, steps in (
        ("good", ({"x": A2 + B},)), ("bad", (BROKEN, {"x": A2 + B}))))
    monkeypatch.setattr("harness.jobs.inputs.resolve", lambda *_, **__: None)
    for blame, code in ((good, 0), (bad, 1)):
        monkeypatch.setattr(builds, "blame", lambda *_, found=blame, **__: found)
        done = CliRunner().invoke(cli, ["blame", str(PLAN), "-v", "none"])
        assert done.exit_code == code, done
        assert "x.o: a first changed by patch" in done.output
        done = CliRunner().invoke(cli, ["blame", str(PLAN), "-v", "none", "--json", "--quiet"])
        assert json.loads(done.output)[0]["variant"] == "v"
