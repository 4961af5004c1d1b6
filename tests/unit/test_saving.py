from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from workbench import registry, retrieval
from workbench.cli import app
from workbench.errors import ConfigError, NotFoundError
from workbench.models import load_card
from workbench.prompts import prompt as prompts
from workbench.workspace.save import save

ROOT = Path(__file__).resolve().parents[2]
PROMPT = """---
name: reply
owner: the desk
reason: The wording of the notebook.
inputs:
  question: {type: string, data_class: internal}
---
user:
{{ question }}
"""
MEMORY = """description: The notes of a shop.
source: data/shop
chunking: {kind: sentences, size: 2}
embedding: wordllama-256
candidates: 20
"""


def write(root, place, text):
    path = root / "pipelines" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_prompt_written_by_hand_becomes_version_1_with_its_own_reason(tmp_repo):
    path = write(tmp_repo, "prompts/reply/1.prompty", PROMPT)
    with pytest.raises(NotFoundError) as unsaved:
        prompts.load(tmp_repo, "reply", author="a")
    assert unsaved.value.hint == "workbench save prompt/reply"
    assert str(save(tmp_repo, "prompt/reply")) == "reply@1"
    assert path.read_text() == PROMPT, "what was written is what is saved"
    assert prompts.load(tmp_repo, "reply@1", author="a").number == 1
    entry = registry.load(tmp_repo, "prompt", "reply").versions[1]
    assert (entry.reason, entry.parent) == ("The wording of the notebook.", None)


def test_the_next_file_is_the_next_version_and_its_parent_is_what_it_says(tmp_repo):
    write(tmp_repo, "prompts/reply/1.prompty", PROMPT)
    save(tmp_repo, "prompt/reply")
    write(tmp_repo, "prompts/reply/2.prompty", PROMPT.replace("owner:", "parent: 1\nowner:"))
    save(tmp_repo, "prompt/reply", reason="said again")
    asset = registry.load(tmp_repo, "prompt", "reply")
    assert sorted(asset.versions) == [1, 2]
    assert (asset.versions[2].reason, asset.versions[2].parent) == ("said again", 1)
    with pytest.raises(NotFoundError, match=r"no file pipelines/prompts/reply/3\.prompty") as nothing:
        save(tmp_repo, "prompt/reply")
    assert "cp pipelines/prompts/reply/2.prompty" in nothing.value.hint


def test_a_memory_and_a_model_are_saved_alike(tmp_repo):
    write(tmp_repo, "memories/shop/1.yaml", MEMORY)
    card = (ROOT / "pipelines/models/smollm2-135m/1.yaml").read_text()
    write(tmp_repo, "models/other/1.yaml", card.replace("name: smollm2-135m", "name: other"))
    for reference in ("memory/shop", "model/other"):
        with pytest.raises(ConfigError, match="needs a reason"):
            save(tmp_repo, reference)
        save(tmp_repo, reference, reason="first")
    assert str(retrieval.load_spec(tmp_repo, "shop@1")) == "shop@1"
    assert load_card(tmp_repo, "other").reference == "other@1"


@pytest.mark.parametrize(
    ("place", "text", "reference", "said"),
    [
        ("prompts/reply/1.prompty", PROMPT.replace("}}", "}"), "prompt/reply", "1.prompty: user turn"),
        ("prompts/reply/1.prompty", PROMPT.replace("name: r", "name: R"), "prompt/reply", "the name 'R"),
        ("memories/shop/1.yaml", MEMORY.replace("source", "sorce"), "memory/shop", "nearest: 'source'"),
        ("jobs/nightly/1/job.yaml", "format: 1", "job/nightly", "a job cannot be saved"),
        ("prompts/reply/1.prompty", PROMPT, "prompt/reply@1", "gets the next number"),
    ],
)
def test_what_could_not_be_used_is_not_saved(tmp_repo, place, text, reference, said):
    path = write(tmp_repo, place, text)
    with pytest.raises(ConfigError, match=said):
        save(tmp_repo, reference, reason="first")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_command_says_what_was_saved_and_what_is_next(tmp_repo, monkeypatch):
    write(tmp_repo, "memories/shop/1.yaml", MEMORY)
    shutil.copy(ROOT / "params.yaml", tmp_repo)
    monkeypatch.chdir(tmp_repo)
    done = CliRunner().invoke(app.cli, ["save", "memory/shop", "--reason", "first", "--json"])
    assert json.loads(done.output)["version"] == 1
    write(tmp_repo, "memories/shop/2.yaml", MEMORY)
    done = CliRunner().invoke(app.cli, ["save", "memory/shop", "--reason", "again"])
    assert done.output.startswith("saved memory/shop@2\nnext: name version 2 in params.yaml")


def test_a_generator_is_saved_without_running_it(tmp_repo):
    write(tmp_repo, "generators/rows/1.py", "raise SystemExit(3)\n")
    with pytest.raises(ConfigError, match="needs a reason"):
        save(tmp_repo, "generator/rows")
    assert str(save(tmp_repo, "generator/rows", reason="rows for a test")) == "rows@1"


def test_a_generator_that_is_no_python_is_named_with_its_line(tmp_repo):
    path = write(tmp_repo, "generators/rows/1.py", "import json\nrows = [\n")
    with pytest.raises(ConfigError, match=r"1\.py:2: .*Python") as refused:
        save(tmp_repo, "generator/rows", reason="rows for a test")
    assert refused.value.hint == f"python -m py_compile {path}"
    assert not registry.names(tmp_repo, "generator")


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_generator_has_no_label_to_move(tmp_repo, monkeypatch, command):
    write(tmp_repo, "generators/rows/1.py", "rows = []\n")
    save(tmp_repo, "generator/rows", reason="rows for a test")
    before = registry.load(tmp_repo, "generator", "rows")
    shutil.copy(ROOT / "params.yaml", tmp_repo)
    monkeypatch.chdir(tmp_repo)
    done = CliRunner().invoke(app.cli, [command, "generator/rows"])
    assert isinstance(done.exception, ConfigError) and "no labels" in str(done.exception)
    assert registry.load(tmp_repo, "generator", "rows") == before
