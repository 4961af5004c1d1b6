"""A new repository: what is laid, where nothing may be laid, and a laying that is killed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sizes import drawn, kill_points

from workbench import config, files
from workbench.cli import app
from workbench.diagnostics.check import check_all
from workbench.errors import ConfigError, UnavailableError
from workbench.scaffold import contents as laid
from workbench.scaffold import new
from workbench.scaffold.contents import contents

ROOT = Path(__file__).resolve().parents[3]


def git(folder, *words):
    done = subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def tree(folder):
    """Every file below a folder with its bytes, git's own left out."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".git/")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A repository with the example use case, which no test changes."""
    folder = tmp_path_factory.mktemp("laid") / "whole"
    new.lay(folder)
    return folder


def test_a_new_repository_is_committed_and_passes_the_check(whole):
    assert git(whole, "status", "--porcelain", "--ignored") == ""
    assert git(whole, "log", "--format=%an %s") == "Test Start from workbench new"
    assert {path.name for path in whole.iterdir()} - contents().tops == {".git"}
    found = check_all(whole)
    assert found.passed, str(found)
    params = config.load_params(whole)
    assert list(params.use_cases) == list(params.jobs) == ["answers"]


def test_the_files_are_the_project_s_own_byte_for_byte(whole):
    found = tree(whole)
    here = {"README.md", "params.yaml", "pipelines/jobs/stages.yaml", "tests/test_repository.py"}
    assert all(data == (ROOT / name).read_bytes() for name, data in found.items() if name not in here)
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "workbench").rglob("*.py")}
    assert code == {name for name in found if re.fullmatch(r"workbench/.*\.py", name)}
    for name in ("README.md", "tests/test_repository.py"):
        assert found[name] == (laid.LAID / name).read_bytes()


def test_approvals_and_policies_of_the_project_stay_there(tmp_path, monkeypatch):
    house = tmp_path / "house"
    for folder in ("assessments", "policies"):
        shutil.copytree(ROOT / "pipelines" / folder, house / "pipelines" / folder)
    for name in ("params.yaml", "pipelines/jobs/stages.yaml"):
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, house / name)
    (house / "pipelines/assessments/smollm2-135m.approvals.yaml").write_text("approvals: []\n")
    for name in ("house.cedar", "workbench.cedar", "tests.yaml", "entities.json"):
        (house / "pipelines/policies" / name).write_text("[]\n")
    carried = tmp_path / "carried"
    shutil.copytree(house, carried / "base")
    listed = [*laid._undecided(laid._listed(house, "pipelines/assessments"))]
    monkeypatch.setattr(laid, "CARRIED", carried)
    found = contents()
    own = {name for name in found.files if re.match("pipelines/(policies|assessments)/", name)}
    builtin = laid.PACKAGE / "policy" / "builtin"
    assert own == {
        "pipelines/assessments/smollm2-135m.yaml", "pipelines/assessments/wordllama-256.yaml",
        *(f"pipelines/policies/{path.name}" for path in builtin.iterdir()),
    }  # fmt: skip
    assert all(
        found.read(f"pipelines/policies/{path.name}") == path.read_bytes() for path in builtin.iterdir()
    )
    assert sorted(listed) == [
        f"pipelines/assessments/{name}.yaml" for name in ("smollm2-135m", "wordllama-256")
    ]


@pytest.mark.parametrize("terms", ["{lexicon: pipelines/privacy/terms.txt}", "\n  lexicon: &a\n    x"])
def test_lists_of_words_of_the_project_stay_there(tmp_path, monkeypatch, terms):
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for name in ("workbench", "docs", "data", "notebooks", "locks", ".jupyter", ".dvc"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in (".dvcignore", ".gitattributes", ".gitignore", "LICENSE", "Makefile", "NOTICE", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(f"privacy: {terms}\n{text}")
    for name in ("privacy/terms.txt", "moderation/topics.txt"):
        (tmp_path / "pipelines" / name).write_text("[project]\nProject Nightingale\n")
    before = contents()
    monkeypatch.setattr(laid, "PACKAGE", tmp_path / "workbench")
    monkeypatch.setattr(laid, "CARRIED", tmp_path / "none")
    found = contents()
    assert found.files.keys() == before.files.keys()
    assert found.read("params.yaml") == before.read("params.yaml")


def test_without_the_example_one_error_names_the_command_that_makes_a_use_case(tmp_path, monkeypatch):
    """In an empty folder, from inside of it."""
    monkeypatch.chdir(tmp_path)
    made = new.lay(Path(), empty=True)
    assert made.commit and (tmp_path / "Makefile").is_file() and Path.cwd() == tmp_path
    assert not [name for name in tree(made.folder) if "handbook" in name or "answers.ipynb" in name]
    assert any("workbench init" in command for command in made.next_commands)
    with pytest.raises(ConfigError, match="use_cases is empty") as caught:
        config.load_params(made.folder)
    assert "workbench init" in caught.value.hint
    assert files.read_yaml(made.folder / "params.yaml") == {"use_cases": {}, "jobs": {}}
    assert files.read_yaml(made.folder / "pipelines/jobs/stages.yaml") == {"promoted": {}}


def test_every_link_of_a_page_leads_to_a_laid_file(whole):
    links = []
    for page in [whole / "README.md", *(whole / "docs").rglob("*.md"), whole / "data" / "README.md"]:
        text = re.sub(r"(?s)```.*?```", "", page.read_text(encoding="utf-8"))
        links += [(page, link) for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
    assert len(links) > 20
    assert not [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()]


TWO = """\
# Tuned.
use_cases:
  first:     # ours
    title: One

    seed: 7
  answers:
    title: Two

# Promoted.
jobs:
  first:
    use_case: first
"""


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"answers"}, "# Tuned.\nuse_cases:\n  answers:\n    title: Two\n\n# Promoted.\njobs: {}\n"),
        (set(), "# Tuned.\nuse_cases: {}\n\n# Promoted.\njobs: {}\n"),
        ({"first", "answers"}, TWO),
    ],
)
def test_only_the_named_blocks_of_a_file_stay(names, text):
    assert laid._with_blocks(TWO, names) == text


@pytest.mark.parametrize("name", drawn(["a b", "übung", "🙂 isn't", "-x"], 2))
def test_a_name_may_hold_spaces_umlauts_emoji_and_apostrophes(tmp_path, name):
    made = new.lay(tmp_path / name, empty=True)
    assert git(made.folder, "status", "--porcelain") == ""
    told = subprocess.check_output(["sh", "-c", f"{made.next_commands[0]} && pwd"], text=True)
    assert told.strip() == str(tmp_path / name)


def test_a_repository_without_files_is_filled(tmp_path):
    mine = tmp_path / "mine"
    git(tmp_path, "init", "--quiet", "-b", "trunk", mine)
    new.lay(mine, empty=True)
    assert git(mine, "branch", "--show-current") == "trunk"
    assert git(mine, "status", "--porcelain") == ""


def test_without_a_name_for_git_nothing_is_committed_and_the_commands_are_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for key, value in {"COUNT": "1", "KEY_0": "user.useConfigOnly", "VALUE_0": "true"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{key}", value)
    made = new.lay(tmp_path / "claims", empty=True)
    assert made.commit == "" and "name" in made.problem
    assert "git config user.name" in str(made) and "git add --all && git commit" in str(made)
    assert not set(tree(made.folder)) ^ set(contents(empty=True).files)


def test_a_dry_run_writes_nothing_and_says_what_it_would(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["workbench", "new", str(tmp_path / "claims"), "--dry-run", "--json"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    told = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and list(tmp_path.iterdir()) == []
    assert sum(told["tops"].values()) == len(contents().files) and told["planned"] is True
    assert told["next"] == [f"workbench new {tmp_path / 'claims'}"]


def test_a_folder_that_holds_anything_stays_as_it_is(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"not empty.*note\.txt"):
        new.lay(tmp_path)
    assert tree(tmp_path) == {"note.txt": b"mine"}
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "mine")
    (tmp_path / "note.txt").unlink()
    with pytest.raises(ConfigError, match=r"not empty.*note\.txt"):  # git can bring it back
        new.lay(tmp_path)
    assert tree(tmp_path) == {}


def test_a_second_laying_is_refused(whole):
    before = tree(whole)
    with pytest.raises(ConfigError, match="not empty"):
        new.lay(whole)
    assert tree(whole) == before


def test_a_folder_in_another_repository_is_refused_with_a_way_out(tmp_repo):
    with pytest.raises(ConfigError, match="git repository") as caught:
        new.lay(tmp_repo / "deep" / "claims", empty=True)
    assert not (tmp_repo / "deep").exists()
    subprocess.run(caught.value.hint.partition("type: ")[2], shell=True, check=True, capture_output=True)
    assert new.lay(tmp_repo / "deep" / "claims", empty=True).commit


@pytest.mark.parametrize("name", ["a:b", "a$b", "a\nb", "a`b`", 'a"b', "a#b", "a%b", "a\\b"])
def test_a_name_that_make_or_a_path_cannot_hold_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="character"):
        new.lay(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "claims").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        new.lay(tmp_path / "claims")
    with pytest.raises(ConfigError, match="is a file"):
        new.lay(tmp_path / "claims" / "deeper")


def test_a_parent_that_cannot_be_written_is_named():
    with pytest.raises(UnavailableError, match="/proc/claims"):  # nobody may make a folder there
        new.lay(Path("/proc/claims"), empty=True)


def test_without_git_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="git"):
        new.lay(tmp_path / "claims")
    assert not (tmp_path / "claims").exists()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package as a wheel installs it, with the files of new repositories inside."""
    package = tmp_path / "site-packages" / "workbench"
    for name in ("params.yaml", "pipelines/jobs/stages.yaml"):
        target = package / "scaffold" / "carried" / "base" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    monkeypatch.setattr(laid, "PACKAGE", package)
    monkeypatch.setattr(laid, "CARRIED", package / "scaffold" / "carried")
    return package


def test_a_wheel_s_files_are_laid_and_its_copies_are_not(installed):
    (installed / "code.py").write_text("x = 1\n")
    (installed / "__pycache__").mkdir()
    (installed / "__pycache__" / "code.pyc").write_bytes(b"")
    found = contents()
    assert "workbench/code.py" in found.files and "params.yaml" in found.files
    assert not [name for name in found.files if "carried" in name or "pyc" in name]


@pytest.mark.parametrize("lost", ["carried", "carried/base/params.yaml"])
def test_a_package_without_its_files_says_how_to_install_it_again(installed, tmp_path, lost):
    path = installed / "scaffold" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ConfigError, match=f"lacks .*{Path(lost).name}") as caught:
        new.lay(tmp_path / "claims")
    assert "reinstall" in caught.value.hint and not (tmp_path / "claims").exists()


def test_a_file_that_the_installer_recorded_and_that_is_gone_is_named(installed, tmp_path, monkeypatch):
    class Recorded(importlib.metadata.PackagePath):
        def locate(self):
            return installed.parent / self

    recorded = [Recorded("workbench/scaffold/carried/base/params.yaml"), Recorded("workbench/gone.py")]
    monkeypatch.setattr(importlib.metadata, "files", lambda name: recorded)
    with pytest.raises(ConfigError, match=r"gone\.py") as caught:
        new.lay(tmp_path / "claims")
    assert "reinstall" in caught.value.hint
    (installed / "gone.py").write_text("")
    assert "workbench/gone.py" in contents().files


#: A verb of Path or os, and how many calls of it go well before the process is killed.
KILLS = [("write_bytes", 0), ("write_bytes", 100), ("rename", 0), ("rename", 1), ("rename", 6), ("rmdir", 0)]


@pytest.mark.parametrize(("verb", "calls"), kill_points(KILLS))
def test_after_a_kill_the_same_command_completes_the_repository(tmp_path, verb, calls):
    folder = tmp_path / "claims"
    child = os.fork()
    if child == 0:
        real, left = getattr(Path, verb), iter(range(calls))
        fatal = lambda *words, **named: os._exit(9) if next(left, None) is None else real(*words, **named)  # noqa: E731
        setattr(Path, verb, fatal)
        new.lay(folder, empty=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert new.lay(folder, empty=True).commit
    wanted = contents(empty=True)
    assert tree(folder) == {name: wanted.read(name) for name in wanted.files}
    assert git(folder, "status", "--porcelain") == ""


def test_what_a_user_put_beside_a_killed_laying_is_not_touched(tmp_path):
    folder = tmp_path / "claims"
    (folder / new._LAID).mkdir(parents=True)
    (folder / new._LAID / "Makefile").write_text("laid")
    (folder / "Makefile").write_text("mine")
    with pytest.raises(ConfigError, match="Makefile exists"):
        new.lay(folder, empty=True)
    assert (folder / "Makefile").read_text() == "mine"


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UnavailableError, match="space"):
        new.lay(tmp_path / "claims")
    assert list(tmp_path.iterdir()) == []
