from __future__ import annotations

import dataclasses
import platform
import sys
from pathlib import Path

import pytest

from workbench.repository.environments import STAMP
from workbench.repository.fingerprint import IMAGE_VARIABLE, Fingerprint, fingerprint

LOCK = """\
openai==2.0 \\
    --hash=sha256:aa
ruamel.yaml==0.18 ; python_version >= '3'
absent==1
    # via x
"""
JUDGED = Fingerprint(
    python="3.11.7", system="Linux", machine="x86_64", lock="a" * 64, packages="b" * 64,
    confinement="partial", libc="glibc 2.36", kernel="6.1", image="workbench:1",
)  # fmt: skip


def environment(folder, *packages, lock=LOCK, python="3.11.7"):
    """An environment of these installed packages; its interpreter is never started."""
    for package in packages:
        (folder / "lib/python3.11/site-packages" / f"{package}.dist-info").mkdir(parents=True)
    (folder / STAMP).write_text(lock)
    (folder / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {python}\n")
    return fingerprint(folder / "bin" / "python", confinement="full")


def test_an_environment_is_its_lock_its_packages_its_python_and_its_machine(tmp_path, monkeypatch):
    monkeypatch.setenv(IMAGE_VARIABLE, "workbench:abc")
    found = environment(tmp_path, "openai-2.0", "ruamel_yaml-0.18")
    assert (found.python, found.system, found.machine) == ("3.11.7", platform.system(), platform.machine())
    assert found.image == "workbench:abc" and found.confinement == "full" and len(found.lock) == 64
    assert Fingerprint(**found.to_json()) == found


def test_a_package_that_was_changed_by_hand_changes_it_and_one_beside_the_lock_does_not(tmp_path):
    plain = environment(tmp_path / "a", "openai-2.0", "ruamel_yaml-0.18")
    spelled = environment(tmp_path / "b", "OpenAI-2.0", "ruamel.yaml-0.18", "pytest-8.0")
    assert plain.digest == spelled.digest and plain.packages == spelled.packages
    for number, packages in enumerate([("openai-2.1", "ruamel_yaml-0.18"), ("openai-2.0",)]):
        other = environment(tmp_path / f"c{number}", *packages)
        assert other.packages != plain.packages and other.digest != plain.digest
    assert environment(tmp_path / "d", "openai-2.0", lock=LOCK + "x==1\n").lock != plain.lock


def test_the_running_environment_has_the_packages_of_its_lock():
    found = fingerprint(Path(sys.executable), confinement="none")
    assert found.python == platform.python_version()
    assert found == fingerprint(Path(sys.executable), confinement="none") and found.lock


def test_an_environment_that_states_nothing_is_unknown_and_no_error(tmp_path):
    found = fingerprint(tmp_path / "bin" / "python", confinement="none")
    assert (found.python, found.lock) == ("", "")
    (difference, *_) = dataclasses.replace(found, python="3.11.7").differences(found)
    assert str(difference) == "python is unknown, judged with 3.11.7" and difference.matters


@pytest.mark.parametrize(
    ("changed", "matters"),
    [
        ({"python": "3.12.1"}, True),
        ({"python": "3.11.9"}, False),
        ({"machine": "aarch64"}, True),
        ({"system": "Darwin"}, True),
        ({"lock": "c" * 64}, True),
        ({"packages": "c" * 64}, True),
        ({"confinement": "none"}, True),
        ({"confinement": "full"}, False),
        ({"confinement": "odd"}, True),
        ({"libc": "musl"}, False),
        ({"kernel": "6.12"}, False),
        ({"image": ""}, False),
    ],
)
def test_what_can_change_an_output_matters_and_the_rest_is_told(changed, matters):
    here = dataclasses.replace(JUDGED, **changed)
    (difference,) = JUDGED.differences(here)
    assert (difference.part, difference.matters) == (next(iter(changed)), matters)
    assert JUDGED.differences(JUDGED) == ()


def test_a_digest_is_of_what_must_match():
    same = dataclasses.replace(JUDGED, python="3.11.9", kernel="7", libc="", image="")
    assert same.digest == JUDGED.digest
    for changed in ({"python": "3.12.7"}, {"lock": "c"}, {"packages": "c"}, {"machine": "arm64"}):
        assert dataclasses.replace(JUDGED, **changed).digest != JUDGED.digest
