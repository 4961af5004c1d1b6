"""What a machine can confine, and what doctor and a spec say where a part is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.confinement import landlock, prepared, seccomp
from workbench.confinement.allowed import Allowed
from workbench.confinement.supported import support
from workbench.diagnostics import confinement


@pytest.mark.parametrize(
    ("abi", "filters", "level", "missing"),
    [
        (7, True, "full", []),
        (6, True, "full", []),
        (4, True, "partial", ["signals"]),
        (0, True, "partial", ["files", "signals"]),
        (7, False, "none", ["network"]),
        (0, False, "none", ["files", "network", "signals"]),
    ],
)
def test_the_level_is_what_is_confined_and_each_missing_part_is_named(
    monkeypatch, abi, filters, level, missing
):
    monkeypatch.setattr(landlock, "abi", lambda: abi)
    monkeypatch.setattr(seccomp, "available", lambda: filters)
    machine, finding = support(), confinement.kernels()
    assert machine.level == level
    assert [text.partition(":")[0] for text in machine.missing] == missing
    assert finding.state == ("missing" if missing else "ok")
    assert all(part in finding.detail for part in missing) and not (missing and finding.needed)


def test_another_system_has_neither(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert (landlock.abi(), seccomp.available(), support().level) == (0, False, "none")


def test_a_spec_names_each_path_once_and_hides_by_naming_the_siblings(tmp_path):
    code, folder = tmp_path / "code", tmp_path / "run"
    for path in (code / "a", code / "inner" / "hidden", code / "inner" / "b", folder / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (code / "link").symlink_to(code / "inner" / "hidden")
    hidden = (code / "inner" / "hidden", code / "not there yet")
    spec = prepared.spec(
        Allowed(read=(code,), hidden=hidden, execute=(code / "a",)), {"A": "1"}, folder=folder
    )
    content = json.loads(spec.read_text())
    rules = {Path(path).relative_to(tmp_path).as_posix(): access for path, access in content["rules"].items()
             if path.startswith(str(tmp_path))}  # fmt: skip
    assert rules == {
        "code/a": landlock.READ | landlock.EXECUTE,
        "code/inner/b": landlock.READ,
        "run/own": landlock.WRITE,
    }
    assert content["environment"]["A"] == "1" and content["environment"]["HOME"] == str(folder / "own")
    assert spec.stat().st_mode & 0o777 == 0o600
    assert prepared.spec(Allowed(), {}, folder=folder) == spec


def test_a_module_path_of_the_environment_comes_after_the_room_s(tmp_path):
    spec = prepared.spec(Allowed(), {"PYTHONPATH": "/modules"}, folder=tmp_path)
    startup, given = json.loads(spec.read_text())["environment"]["PYTHONPATH"].split(":")
    assert startup.endswith("startup") and given == "/modules"


def test_a_confined_kernel_imports_no_debugger_and_its_notebook_may():
    """In a process of its own: Python imports the startup folder's module when it starts."""
    startup = Path(prepared.__file__).with_name("startup")
    asks = (
        "import sys; from ipykernel import debugger; print(debugger._is_debugpy_available, "
        "'debugpy' in sys.modules); import debugpy; print(debugpy.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", asks], env={**os.environ, "PYTHONPATH": str(startup)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "False", "debugpy"]
