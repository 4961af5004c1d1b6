"""From a judged notebook to a job on today's input and back again, as a user types it."""

from __future__ import annotations

import polars as pl
import pytest
from clone_edits import (
    INBOX,
    RUN,
    SAMPLE,
    SLOT,
    bytes_of,
    commit,
    next_command,
    one_error,
    questions_of,
    replaced,
    row_of,
    rows,
    runs,
    state,
)
from clones import ROOT

import workbench as wb
from workbench import files, layout, registry
from workbench.errors import ConfigError, NotFoundError
from workbench.jobs import publishing
from workbench.jobs import spec as jobspec
from workbench.promotion.promote import ReleaseOptions, promote, rollback

pytest_plugins = ("promoted_clones",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ASKED = ["q-04", "q-09", "q-13"]


def new_prompt(clone, before: int, **edit) -> int:
    """Save another prompt and name it in params.yaml; its number."""
    ws = wb.connect("answers", root=clone.folder)
    number = ws.prompt("answer@2").edit(**edit).save(reason="a test's").number
    ws.close()
    replaced(clone, "params.yaml", f"answer, version: {before}", f"answer, version: {number}")
    return number


def test_the_card_says_what_is_frozen_and_what_to_commit(promoted):
    """test_promote_page has the card of a dry run, which writes nothing."""
    assert row_of(promoted.said, "prompt") == ["prompt", "answer@2"]
    assert row_of(promoted.said, "memory") == ["memory", "handbook@2"]
    assert row_of(promoted.said, "model") == ["model", "smollm2-135m@1"]
    assert row_of(promoted.said, "schedule")[1:] == ["0", "6", "*", "*", "*", "UTC"]
    assert "cost_usd_per_case" in promoted.said and "accuracy" in promoted.said
    assert "ran clean alone: 2 of 2 sample rows answered" in promoted.said
    assert "job/answers@1 is production (before: none)" in promoted.said
    assert next_command(promoted.said).startswith("git commit -m 'Promote job/answers@1 to production' -- ")
    assert promoted.clone.status() == ""


def test_a_job_runs_is_replaced_by_another_code_and_prompt_and_comes_back(promoted_clone):
    """The first version answers again at the end, in its own code beside another: the same bytes."""
    clone = promoted_clone
    ask_for_few_words(clone)
    (clone.folder / ".workbench").chmod(0o755)  # as an earlier version made it
    first = answered_todays_questions(clone)
    left_to_its_owner_alone(clone)
    promoted_another_code_and_prompt(clone)
    kept_the_samples_of_both(clone)
    published_by_the_new_code(clone)
    went_back_on_a_dirty_tree(clone)

    clone.run(*RUN, INBOX, "--replace")
    again = bytes_of(clone.folder / SLOT)
    assert again.keys() == first.keys()
    assert all(again[name] == first[name] for name in first if name != "manifest.json")
    assert publishing.read(clone.folder / SLOT).version == 1
    assert [(run.version, run.outcome) for run in runs(clone)][:2] == [(1, "published"), (2, "published")]


def ask_for_few_words(clone):
    """Three questions that the embedded model answers in eleven tokens each, and the broken row."""
    inbox = pl.read_parquet(ROOT / INBOX)
    inbox.filter(pl.col("id").is_in([*ASKED, "q-21"])).write_parquet(clone.folder / INBOX)
    commit(clone, "Questions of the day")


def answered_todays_questions(clone):
    """Three unseen questions and a broken row; the same again changes nothing."""
    said = clone.run(*RUN, INBOX)
    assert "answers@1 · 2026-11-24T06:00:00Z · all tenants · published" in said and "3/3" in said
    manifest = publishing.read(clone.folder / SLOT)
    assert (manifest.counts["answered"], manifest.counts["quarantined"]) == (3, 1)
    assert manifest.input_digest == files.digest((clone.folder / INBOX).read_bytes())
    (aside,) = pl.read_parquet(clone.folder / SLOT / "quarantine.parquet").to_dicts()
    assert (aside["row"], aside["id"], aside["kind"]) == (4, "q-21", "input")
    assert aside["reason"] == "missing key 'question'"
    answers = pl.read_parquet(clone.folder / SLOT / "answers.*.parquet")
    assert answers["id"].to_list() == ASKED and all(answers["text"])

    ran = bytes_of(clone.folder / SLOT)
    same = clone.run("workbench", "jobs", "run", "answers", "--at", "2026-11-24T07:00+01:00")  # another zone
    assert "unchanged" in same and "nothing to do" in same
    assert bytes_of(clone.folder / SLOT) == ran
    history = clone.run("workbench", "jobs", "history", "answers")
    assert "answers/all/20261124T060000Z" in history and "published" in history and "unchanged" in history
    assert "unchanged 2026-11-24 06:00Z" in clone.run("workbench", "jobs", "list")
    its_own_calls(clone, manifest.run)
    return ran


def left_to_its_owner_alone(clone):
    """What a job leaves can be read by nobody else; test_small_use_case has what an explored run leaves."""
    tops = [clone.folder / ".workbench", clone.folder / "published"]
    began = (clone.folder / SLOT).parents[2].stat().st_ctime - 60
    found = [path for top in tops for path in (top, *top.rglob("*")) if not path.is_symlink()]
    made = [path for path in found if path.stat().st_mtime >= began]
    assert [path.stat().st_mode & 0o777 for path in tops] == [0o700, 0o700]
    shown = [str(path.relative_to(clone.folder)) for path in made if path.stat().st_mode & 0o077]
    assert len(made) > 20 and shown == []


def its_own_calls(clone, run):
    """Each answer can be traced: the job is the principal, and the labels name the run and the row."""
    asked = questions_of(clone, run)
    assert sorted(asked["row"]) == ASKED
    assert set(asked["principal"]) == {"job:answers"} and set(asked["job"]) == {"answers"}


def promoted_another_code_and_prompt(clone):
    """A column more beside the answers, and another prompt: a second version beside the first."""
    frame = 'return pl.DataFrame(rows, schema=schema, orient="row")'
    column = '.with_columns(by=pl.lit("the second code"))'
    replaced(clone, "workbench/experiments/batch.py", frame, frame + column)
    assert (
        new_prompt(clone, 2, system="You answer questions about the handbook.", parameters={"max_tokens": 16})
        == 3
    )
    clone.run("dvc", "repro", "gate@answers")
    commit(clone, "Name who set a row aside")
    said = clone.run(
        "workbench", "promote", "job/answers", "--commit", "--reason", "names who set a row aside"
    )
    assert "job/answers@2 is production (before: @1)" in said
    assert row_of(said, "prompt") == ["prompt", "answer@2", "answer@3"]
    assert row_of(said, "memory") == ["memory", "handbook@2", "the", "same"]
    assert clone.status() == ""


def kept_the_samples_of_both(clone):
    """Each labelled version has its stage, which gave its sample's bytes.

    test_former_versions has stages that run in former code without a network.
    """
    clone.run("workbench", "promote", "job/answers@1", "--to", "candidate", "--commit")
    stages = files.read_yaml(clone.folder / layout.PROMOTED)["promoted"]
    assert set(stages) == {"answers-1", "answers-2"}
    for number in (1, 2):
        spec, _ = jobspec.load(clone.folder, "answers", number)
        made = bytes_of(clone.folder / f"results/jobs/answers-{number}")
        assert {name: files.digest(data) for name, data in made.items()} == spec.sample_outputs
    assert clone.status() == ""


def published_by_the_new_code(clone):
    """The slot is the first version's until it is told to be replaced."""
    before = bytes_of(clone.folder / SLOT)
    said = one_error(clone.run(*RUN, SAMPLE, code=3))
    assert "published already, by answers@1 from another version" in said and "--replace" in said
    assert bytes_of(clone.folder / SLOT) == before
    clone.run(*RUN, SAMPLE, "--replace")
    assert publishing.read(clone.folder / SLOT).version == 2
    assert "by" in pl.read_parquet(clone.folder / SLOT / "quarantine.parquet").columns


def went_back_on_a_dirty_tree(clone):
    """Whatever else is being worked on stays as it is, in the index and out of it."""
    (clone.folder / "README.md").write_text("being rewritten\n")
    (clone.folder / "notes.txt").write_text("not yet in git\n")
    clone.run("git", "add", "README.md")
    dirty = clone.status()
    said = clone.run("workbench", "rollback", "job/answers", "--commit")
    assert "job/answers@1 is production (before: @2)" in said
    assert row_of(said, "prompt") == ["prompt", "answer@3", "answer@2"]
    assert clone.status() == dirty != ""


@pytest.mark.drawn("jobs with a kernel", 1)
def test_one_tenants_rows_are_a_slot_of_their_own_found_by_the_day(promoted_clone):
    clone = promoted_clone
    rows(clone, "data/inbox/2026-11-25.parquet", pl.read_ndjson(clone.folder / SAMPLE))
    said = clone.run("workbench", "jobs", "run", "answers", "--at", "2026-11-25", "--tenant", "acme")
    assert "answers@1 · 2026-11-25T06:00:00Z · acme · published" in said
    folder = clone.folder / "published/answers/acme/20261125T060000Z"
    assert publishing.read(folder).counts["answered"] == 1
    assert bytes_of(folder).keys() == {"answers.acme.parquet", "manifest.json", "quarantine.parquet"}


def test_the_notebook_shows_the_card_of_the_command_line(promoted_clone):
    clone = promoted_clone
    replaced(clone, "README.md", "#", "##")
    before = state(clone)
    ws = wb.connect("answers", root=clone.folder)
    card = ws.promote("job/answers", dry_run=True)
    ws.close()
    said = clone.run("workbench", "promote", "job/answers", "--dry-run", code=1)  # progress, then the card
    assert said.rstrip("\n").endswith(f"\n{card}")
    assert card._repr_html_().count("uncommitted: README.md") == 1
    assert state(clone) == before


def test_a_prompt_a_model_and_a_memory_are_promoted_and_rolled_back(reproduced_clone):
    """To production only what a judged run used and passed with; a candidate is whatever is to be tried."""
    clone, root = reproduced_clone, reproduced_clone.folder
    for reference in ("prompt/answer@2", "model/smollm2-135m@1", "memory/handbook@2"):
        done = promote(root, reference, ReleaseOptions(commit=True))
        assert (done.before, f"{done.what}@{done.version}") == (None, reference) and done.committed
    for kind, name in (("prompt", "answer"), ("memory", "handbook")):
        assert f"no judged run used {kind}/{name}@1" in one_error(
            clone.run("workbench", "promote", f"{kind}/{name}@1", code=1)
        )
        for number in (1, 2):
            promote(root, f"{kind}/{name}@{number}", ReleaseOptions(label="candidate", commit=True))
        back = rollback(root, f"{kind}/{name}", ReleaseOptions(label="candidate", commit=True))
        assert (back.before, back.version) == (2, 1)
        assert registry.load(root, kind, name).labels == {"candidate": 1, "production": 2}
    with pytest.raises(NotFoundError, match="has never had another version in production before 1"):
        rollback(root, "model/smollm2-135m", ReleaseOptions())
    with pytest.raises(ConfigError, match="answer@2 is in production already"):
        promote(root, "prompt/answer@2", ReleaseOptions())
    assert clone.status() == ""
