# SPDX-License-Identifier: GPL-2.0-only
"""kconfig: fragments are read strictly, and why a symbol came out otherwise is read from the tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernel import kconfig, kconfig_why

NET = """\
menuconfig NET
\tbool "Networking support"
\thelp
\t  depends on nothing, says this help.

\t  config FAKE is no entry

if NET

config XFRM
\tbool
\tdepends on INET
\tselect SKB_EXTENSIONS

config INET_XFRM_MODE
\ttristate "mode"
\tdepends on INET && \\
\t\t!OTHER
\tselect XFRM if (A || B)

menu "Choices"
\tdepends on MENU_ON
config DEEP
\tbool "deep"
\tdepends on $(cc-option,-mfoo)
endmenu

endif

config OUTSIDE
\tdef_bool y
"""


@pytest.fixture
def tree(tmp_path: Path) -> kconfig_why.Kconfigs:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "Kconfig").write_text(NET)
    (tmp_path / "arch" / "arm").mkdir(parents=True)
    (tmp_path / "arch" / "arm" / "Kconfig").write_text("config ARM_ONLY\n\tbool\n\tselect XFRM\n")
    return kconfig_why.read_tree(tmp_path, "x86")


def test_a_symbol_of_another_architecture_is_said_to_be_one(tree: kconfig_why.Kconfigs) -> None:
    assert kconfig_why.reasons("ARM_ONLY", "y", {}, tree) == [
        "this architecture has no such symbol; another has, at arch/arm/Kconfig:1"]
    assert "XFRM" not in tree.elsewhere
    assert not any(selector == "ARM_ONLY" for selector, _, _ in tree.selected["XFRM"])


def test_entries_conditions_and_selects_are_read(tree: kconfig_why.Kconfigs) -> None:
    assert tree.where["XFRM"] == ("net/Kconfig:10",)
    assert "FAKE" not in tree.where
    assert "ARM_ONLY" not in tree.where
    assert tree.depends["XFRM"] == ("NET", "INET")
    assert tree.depends["DEEP"] == ("NET", "MENU_ON", "$(cc-option,-mfoo)")
    assert tree.depends["OUTSIDE"] == ()
    assert tree.selected["XFRM"] == (("INET_XFRM_MODE", "(A || B)", "net/Kconfig:19"),)
    assert "XFRM" not in tree.prompts
    assert "INET_XFRM_MODE" in tree.prompts


def test_off_was_asked_and_something_selects_it(tree: kconfig_why.Kconfigs) -> None:
    got = {"INET_XFRM_MODE": "y", "XFRM": "y", "A": "y"}
    said = "\n".join(kconfig_why.reasons("XFRM", "n", got, tree))
    assert "selected by INET_XFRM_MODE (=y) at net/Kconfig:19" in said
    assert "(A || B)" not in said or "=y" in said


def test_on_was_asked_and_a_dependency_is_off(tree: kconfig_why.Kconfigs) -> None:
    said = "\n".join(kconfig_why.reasons("INET_XFRM_MODE", "y", {"NET": "y", "INET": "y", "OTHER": "y"}, tree))
    assert "depends on INET (=y) && !OTHER (=y)" in " ".join(said.split())


def test_a_symbol_without_a_prompt_names_who_would_select_it(tree: kconfig_why.Kconfigs) -> None:
    said = "\n".join(kconfig_why.reasons("XFRM", "y", {"NET": "y", "INET": "y"}, tree))
    assert "no prompt" in said
    assert "INET_XFRM_MODE (=n) would select it" in said


def test_an_unknown_symbol_gets_a_suggestion(tree: kconfig_why.Kconfigs) -> None:
    assert kconfig_why.reasons("XFMR", "y", {}, tree) == ["no such symbol in this tree; did you mean XFRM?"]


@pytest.mark.parametrize(("condition", "result"), [
    ("A", True), ("N", False), ("!A", False), ("!N", True), ("A && N", False), ("A || N", True),
    ("N && A || A", True), ("N && (A || A)", False), ("M = m", True), ("M != m", False), ('S = "x"', True),
    ("A=y", True), ("A=y || A=n", True), ("$(cc-option,-m)", None), ("A &&", None), ("(A", None), ("", None),
])
def test_conditions(condition: str, result: bool | None) -> None:
    assert kconfig_why.holds(condition, {"A": "y", "M": "m", "S": '"x"'}) is result


def fragment(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_fragments_are_read_in_order(tmp_path: Path) -> None:
    one = fragment(tmp_path, "one", "# words\nCONFIG_A=y\nCONFIG_S=\"x y\"\n# CONFIG_B is not set\n\n")
    two = fragment(tmp_path, "two", "CONFIG_A=y\nCONFIG_C=12\n")
    asked = kconfig.read_fragments([one, two])
    assert [(row.symbol, row.value) for row in asked] == [("A", "y"), ("S", '"x y"'), ("B", "n"), ("C", "12")]


@pytest.mark.parametrize(("text", "message"), [
    ("CONFIG_A=n\n", "CONFIG_A=n contradicts =y of .*one:1"),
    ("CONFIG_B\n", "not a Kconfig setting"),
    ("CONFIG B=y\n", "not a Kconfig setting"),
])
def test_bad_fragments(tmp_path: Path, text: str, message: str) -> None:
    one = fragment(tmp_path, "one", "CONFIG_A=y\n")
    with pytest.raises(UsageError, match=message) as caught:
        kconfig.read_fragments([one, fragment(tmp_path, "two", text)])
    assert caught.value.where == f"{tmp_path}/two:1"


def test_a_missing_fragment(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# caf\xe9\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        kconfig.read_fragments([tmp_path / "latin"])
    with pytest.raises(UsageError, match="cannot be read"):
        kconfig.read_fragments([tmp_path / "none"])
