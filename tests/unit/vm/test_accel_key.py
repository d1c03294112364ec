# SPDX-License-Identifier: GPL-2.0-only
"""The verdict on KVM: kept while nothing it hangs on changes, found out again when anything does, never by halves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import arch
from harness.deadline import Deadline
from harness.errors import DeadlineExpired, InfraError
from harness.vm import accel
from harness.vm.accel import Accel

FACTS: dict[str, Any] = {"boot_id": "1", "qemu_version": "QEMU 7.2", "cpu": "EPYC", "kernel_sha256": "a",
                         "usable": True}


@pytest.mark.parametrize(("name", "value"), [
    ("boot_id", "2"), ("qemu_version", "QEMU 8.0"), ("cpu", "Xeon"), ("kernel_sha256", "b"), ("usable", False)])
def test_a_verdict_hangs_on_each_fact(name: str, value: object) -> None:
    assert accel.verdict_key(**FACTS) == accel.verdict_key(**dict(FACTS))
    assert accel.verdict_key(**{**FACTS, name: value}) != accel.verdict_key(**FACTS)


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The kernels that were booted to find out."""
    kernels: list[Path] = []

    def probe(kernel: Path, *_: object, **__: object) -> Accel:
        kernels.append(kernel)
        return Accel(name="kvm", reason="it booted")

    monkeypatch.setattr(accel, "probe", probe)
    return kernels


def test_a_verdict_is_kept_and_another_kernel_gets_its_own(tmp_path: Path, probed: list[Path]) -> None:
    kernel, other = tmp_path / "kernel", tmp_path / "other"
    kernel.write_bytes(b"one")
    other.write_bytes(b"two")
    for image in (kernel, kernel, other, kernel, other):
        accel.choose(image, tmp_path, cache=tmp_path / "accel.json", deadline=Deadline.after(30))
    assert probed == [kernel, other]


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has KVM's device."""
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(accel, "_DEVICE", tmp_path / "kvm")


@pytest.mark.usefixtures("device")
def test_whatever_goes_wrong_under_kvm_means_tcg(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, words in ((InfraError("QEMU ended with signal 6"), "signal 6"),
                         (DeadlineExpired("booting"), "printed nothing")):
        def fails(*_: object, error: Exception = error, **__: object) -> float:
            raise error

        monkeypatch.setattr(accel, "bare_boot", fails)
        found = accel.probe(Path("k"), Path("i"), arch=arch.native(), deadline=Deadline.after(30))
        assert found.name == "tcg"
        assert words in found.reason


@pytest.mark.usefixtures("device")
def test_a_probe_that_was_given_too_little_time_says_nothing_of_kvm(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> float:
        raise DeadlineExpired("booting")

    monkeypatch.setattr(accel, "bare_boot", slow)
    (tmp_path / "kernel").write_bytes(b"one")
    monkeypatch.setattr(accel, "_key", lambda *_: "key")
    with pytest.raises(DeadlineExpired, match="whether KVM boots Linux"):
        accel.choose(tmp_path / "kernel", tmp_path, cache=tmp_path / "accel.json", deadline=Deadline.after(0))
    assert not (tmp_path / "accel.json").exists()
