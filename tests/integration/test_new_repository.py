"""From the built wheel and an empty folder to a verdict: `workbench new`, then the two commands."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest
from clones import Clone

from workbench.scaffold.contents import contents

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(head, tmp_path_factory):
    """The wheel of what is committed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=head.folder, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def workbench(wheel, tmp_path_factory):
    """The command `workbench` of an environment into which nothing but the wheel was installed.

    Its dependencies are found in the running environment.
    """
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    uv = [sysconfig.get_path("scripts") + "/uv", "pip", "install", "--quiet", "--offline", "--no-deps"]
    subprocess.run([*uv, "--python", python, wheel], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "workbench"


def laid(workbench, folder, *options):
    """A repository that the installed command laid, with the running environment as its `.venv`."""
    home = folder / "home"
    home.mkdir()
    clone = Clone(folder=folder / "my claims", home=home)
    environment = {name: text for name, text in clone.environment().items() if name != "PYTHONPATH"}
    command = [workbench, "new", clone.folder, "--json", *options]
    done = subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True)
    (clone.folder / ".venv").symlink_to(sys.prefix)
    (clone.folder / ".git" / "info" / "exclude").write_text("/.venv\n")  # a link is no folder to .gitignore
    return clone, json.loads(done.stdout)


def test_the_wheel_holds_each_file_of_a_new_repository(wheel):
    carried = "workbench/scaffold/carried/"
    names = {name.removeprefix(carried) for name in zipfile.ZipFile(wheel).namelist() if carried in name}
    found = {name.partition("/")[2] for name in names}
    assert found == {
        name
        for name in contents().files
        if not name.startswith(("workbench/", "tests/")) and name != "README.md"
    }


@pytest.mark.drawn("the shipped pipeline from nothing", 1)  # .ci/run has begun with it
@pytest.mark.timeout(280)
def test_from_the_wheel_both_commands_work_in_a_new_repository(workbench, tmp_path):
    clone, told = laid(workbench, tmp_path)
    assert told["commit"] and told["next"][1:] == ["make repro", "make test"]
    where = clone.run("python", "-c", "import workbench; print(workbench.__file__)").strip()
    assert where == str(clone.folder / "workbench" / "__init__.py")
    assert clone.status() == ""

    output = clone.run("make", "repro", "ASK=1")
    assert "== .venv" not in output and "answers asked again are identical" in output
    gate = json.loads((clone.folder / "results" / "answers" / "gate.json").read_text())
    assert gate["verdict"] == "pass" and gate["gate_digest"].startswith("0cc2a334036d")
    clone.run("git", "add", "--all")
    clone.run("git", "commit", "--quiet", "-m", "First verdict")

    output = clone.run("make", "test", "ARGS=-n0 --durations=0")
    assert "3 passed" in output and "interop" not in output
    assert clone.status() == ""


def test_from_the_wheel_without_the_example_each_command_names_the_next(workbench, tmp_path):
    clone, told = laid(workbench, tmp_path, "--empty")
    assert told["empty"] is True and not (clone.folder / "data").exists()
    for command in ("repro", "check"):
        output = clone.run("make", command, code=2)
        assert "use_cases is empty" in output and "workbench init" in output
    assert "soak" not in clone.run("make", "help")
    assert clone.status() == ""
