# SPDX-License-Identifier: GPL-2.0-only
"""The page for reviewers: complete, escaped, bounded, written whole or not at all."""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.compare.objdiff import compare
from harness.compare.opened import Opened
from harness.deadline import Deadline
from harness.errors import InfraError, UsageError
from harness.proc import run
from harness.report import objdiff_page

SOURCE = "int g(int), h(int); int f(int x) {{ return {}(x) + 1; }} const char t[] = \"{}\";"


def build(folder: Path, text: str, *, name: str = "x", asm: bool = False) -> Path:
    file = f"{name}.{'s' if asm else 'c'}"
    (folder / "net").mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text)
    run(["gcc", "-O2", "-fno-pic", "-fno-asynchronous-unwind-tables", "-c", file, "-o", f"net/{name}.o"], cwd=folder,
        deadline=Deadline.after(60))
    return folder


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    return Opened(compare(build(tmp_path / "base", SOURCE.format("g", "one")),
                          build(tmp_path / "patched", SOURCE.format("h", "six"))))


class Tags(HTMLParser):
    """Which elements and attributes a page really has, and whether they nest."""

    VOID = frozenset({"meta", "td", "tr", "th", "li", "dt", "dd"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.stack: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _value in attrs}
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.stack.pop() == tag


def test_it_says_what_changed(opened: Opened, tmp_path: Path) -> None:
    objdiff_page.write(opened, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "call g -&gt; h" in text
    assert "&#34;one&#34; -&gt; &#34;six&#34;" in text
    assert text.count("<details>") == 2
    tags = Tags(text)
    assert not tags.stack
    assert not tags.seen & {"script", "link", "img", "iframe", "form"}
    assert not [name for name in tags.attributes if name.startswith("on") or name in ("src", "href")]
    assert oct((tmp_path / "page.html").stat().st_mode & 0o777) == "0o644"


def test_nothing_changed(tmp_path: Path) -> None:
    folder = build(tmp_path / "base", SOURCE.format("g", "one"))
    text = objdiff_page.render(Opened(compare(folder, folder)))
    assert "identical, every byte" in text
    assert "What changed" not in text


def test_a_rule_stands_with_its_condition(tmp_path: Path) -> None:
    source = '.section .discard.addressable,"a"\n.type {0},@object\n{0}: .quad f\n.size {0},8\n'
    pages = Opened(compare(build(tmp_path / "a", source.format("__addressable_f1"), asm=True),
                           build(tmp_path / "b", source.format("__addressable_f2"), asm=True)))
    text = objdiff_page.render(pages)
    assert "explained by a named rule" in text
    assert "<code>addressable-line</code><td class=\"n\">1" in text
    assert "net/x.o" in text


def test_hostile_names_are_text(tmp_path: Path) -> None:
    hostile = '<script>alert(1)</script>\x1b[31m\u202e"&{{7*7}}'
    quoted = hostile.replace('"', '\\"')
    source = f'.type "{quoted}",@function\n"{quoted}": mov $1,%eax\nret\n.size "{quoted}",.-"{quoted}"\n'
    other = source.replace("$1", "$2")
    pages = Opened(compare(build(tmp_path / "<b>base", source, name="<i>&", asm=True),
                           build(tmp_path / "patched", other, name="<i>&", asm=True)))
    text = objdiff_page.render(pages)
    assert text.isascii()
    assert "\x1b" not in text
    tags = Tags(text)
    assert not tags.seen & {"script", "b>base", "i"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m" in text
    assert "{{7*7}}" in text
    assert "&lt;i&gt;&amp;.o" in text


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    source = "".join(f"int f{i}(int x) {{{{ return x * 3 + {{0}} + {i}; }}}}\n" for i in range(9))
    pages = Opened(compare(build(tmp_path / "a", source.format(1)), build(tmp_path / "b", source.format(100))))
    text = objdiff_page.render(pages, functions=4)
    assert text.count("<details>") == 4
    assert "5 more functions are left out" in " ".join(text.split())


def test_a_symbolic_link_is_refused(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "page.html").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe.html")
    for name in ("page.html", "pipe.html", "no/page.html", "base"):
        with pytest.raises(UsageError):
            objdiff_page.write(opened, tmp_path / name)
    assert (tmp_path / "target").read_text() == "mine"


def test_it_is_written_whole_or_not_at_all(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "out" / "page.html"
    page.parent.mkdir()
    page.write_text("the last one")

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InfraError, match="No space left"):
        objdiff_page.write(opened, page)
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    assert page.read_text() == "the last one"
