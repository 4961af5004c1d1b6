"""What is tracked works on any machine and says where its parts come from."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["bootstrap", "interop", "interop-older", "phoenix", "test", "workbench"]
MACHINE = re.compile(r"(?<![\w./:-])/(?:work|root|home/\w+)(?![\w-])")
REGISTRY = re.compile(
    r"\b(?:pypi|test\.pypi|files\.pythonhosted|registry\.npmjs|conda\.anaconda)\.(?:org|com)\b"
)
ENTRY = re.compile(
    r"^([A-Za-z0-9][\w.-]*)==(\S+)(?: ;[^\\]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def lock(name: str) -> str:
    return (ROOT / "locks" / f"{name}.lock").read_text(encoding="utf-8")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_nothing_names_a_path_of_one_machine():
    found = {str(p.relative_to(ROOT)): hit[0] for p in tracked() if (hit := MACHINE.search(text_of(p)))}
    assert not found


def test_nothing_names_a_package_registry():
    found = {str(p.relative_to(ROOT)): hit[0] for p in tracked() if (hit := REGISTRY.search(text_of(p)))}
    assert not found


@pytest.mark.parametrize(
    ("pattern", "text", "hit"),
    [
        (MACHINE, "cd /{}/main".format("work"), True),
        (MACHINE, "at /{}/ann".format("home"), True),
        (MACHINE, "the /workbench room, a/work, https://x.org/work", False),
        (REGISTRY, "https://{}.org/simple".format("pypi"), True),
        (REGISTRY, "a registry of one's own", False),
    ],
)
def test_the_patterns_find_what_they_should(pattern, text, hit):
    assert bool(pattern.search(text)) is hit


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_every_entry_by_hash_and_holds_no_address(name):
    text = lock(name)
    assert "://" not in text and "/tmp" not in text
    starts = re.findall(r"^[^\s#].*$", text, re.MULTILINE)
    assert starts and len(ENTRY.findall(text)) == len(starts)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("workbench", None),
        ("test", "test"),
        ("interop", "interop"),
        ("interop-older", "interop-older"),
    ],
)
def test_a_lock_holds_what_the_project_declares(name, extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    locked = {plain(entry[0]) for entry in ENTRY.findall(lock(name))}
    assert not {plain(re.match(r"[\w.-]+", line)[0]) for line in declared} - locked


def test_the_lock_of_phoenix_holds_its_group():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    locked = {plain(entry[0]) for entry in ENTRY.findall(lock("phoenix"))}
    assert {plain(re.match(r"[\w.-]+", line)[0]) for line in groups["phoenix"]} <= locked


@pytest.mark.parametrize("name", ["test", "interop"])
def test_the_larger_locks_agree_with_the_smaller(name):
    def pins(of):  # a package may be pinned twice, for different versions of Python
        return {entry[:2] for entry in ENTRY.findall(lock(of))}

    assert not pins("workbench") - pins(name)


def test_the_commands_of_the_readme_exist():
    targets = set(
        re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    used = set(re.findall(r"\bmake ([a-z]+)\b", code()))
    assert {"repro", "test"} <= used
    assert used <= targets


def code() -> str:
    """The README's code: its blocks and its inline pieces."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"(?s)```.*?```|`[^`\n]*`", readme))


@pytest.mark.parametrize(
    "words",
    [
        ("SmolLM2-135M-Instruct", "HuggingFaceTB", "Apache-2.0"),
        ("WordLlama", "Lee Miller", "MIT"),
        ("xllamacpp", "llama.cpp", "MIT"),
    ],
)
def test_the_notice_names_weights_and_licences(words):
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    section = notice[notice.index(words[0]) :]
    assert all(word in section for word in words)


def test_the_licence_is_the_declared_one():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]
