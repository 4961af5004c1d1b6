"""`workbench init` and its `--undo`: everything or nothing, whatever happens in between."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from sizes import kill_points
from small_use_case import CELLS, NOTEBOOK, notebook, page, small_repository, write

from workbench import config, registry
from workbench.cli.app import cli
from workbench.diagnostics.check import check_all
from workbench.errors import ConfigError, NotFoundError, WorkbenchError
from workbench.layout import PARAMS, Results, judge_tape_of
from workbench.models.assessment import read_assessment
from workbench.scaffold import placing
from workbench.scaffold.init import init
from workbench.scaffold.order import InitOrder, suggested
from workbench.scaffold.undo import undo


@pytest.fixture
def root(tmp_path):
    folder = small_repository(tmp_path / "repository")
    shutil.copytree(folder / "data/small/acme", tmp_path / "docs/acme")
    shutil.copy(folder / "data/small/questions.jsonl", tmp_path / "questions.jsonl")
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def order(root: Path, name: str = "claims", **more) -> InitOrder:
    given = {"docs": root.parent / "docs", "questions": root.parent / "questions.jsonl", **more}
    return InitOrder(name=name, **given)


def tree(root: Path) -> dict[str, bytes]:
    """Every file outside of git and of init's own folder."""
    found = (path for path in root.rglob("*") if path.is_file())
    own = {path: path.relative_to(root).as_posix() for path in found}
    return {name: p.read_bytes() for p, name in own.items() if not name.startswith((".git/", ".workbench/"))}


def folders(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir()}


def test_a_new_use_case_passes_check_and_has_what_the_card_lists(root):
    said = []
    made = init(root, order(root, title="Schäden: all", owner="Zoë", purpose="To\n see"), say=said.append)
    assert check_all(root).passed, str(check_all(root))
    assert (
        "data/claims/documents" in str(made)
        and "make repro" in str(made)
        and len(said) == 3
        and "2 documents, 2 pages of acme" in said[0]
    )
    following = str(made).partition("\nnext: make repro\n")[2]
    assert "workbench assess smollm2-135m" in following and "pipelines/policies" in following
    assert (
        all((root / path).is_file() for path in (*made.files, *made.documents)) and len(made.documents) == 2
    )
    case = config.load_params(root).use_cases["claims"]
    assert (case.title, case.owner, case.purpose, case.tenants) == (
        "Schäden: all",
        "Zoë",
        "To see",
        ("acme",),
    )
    assert case.gates["mvp"]["cases"] == {"min": 4}
    rows = [json.loads(line) for line in (root / "data/claims/sample.jsonl").read_text().splitlines()]
    assert {frozenset(row) for row in rows} == {frozenset({"id", "tenant", "question"})} and len(rows) == 4
    assert config.load_params(root).jobs["claims"].sample == "data/claims/sample.jsonl"
    assert str(registry.resolve(root, "prompt", "claims")) == "claims@1"


def test_the_model_gets_the_form_of_an_assessment_once(root):
    form = root / "pipelines/assessments/smollm2-135m.yaml"
    made = init(root, order(root, owner="claims department"))
    assert str(form.relative_to(root)) in made.files
    found = read_assessment(root, "smollm2-135m")
    assert found.owner == "claims department" and found.unanswered and found.data_classes == ()
    undo(root, "claims")
    assert not form.exists() and not form.parent.exists()
    write(root, "pipelines/assessments/smollm2-135m.yaml", "# ours\n")
    assert "pipelines/assessments/smollm2-135m.yaml" not in init(root, order(root)).files
    undo(root, "claims")
    assert form.read_text() == "# ours\n"


def test_a_dry_run_lists_the_same_files_and_writes_none(root):
    before = tree(root)
    dry = init(root, order(root), dry_run=True)
    assert tree(root) == before and "would be created" in str(dry)
    assert init(root, order(root)).files == dry.files


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("Schäden", "schaeden"),
        ("two words", "two-words"),
        ("🚲 Räder", "raeder"),
        ("🚲", "my-documents"),
        ("2026", "case-2026"),
        ("null", "my-null"),
        ("a/b", "a-b"),
        ("../x", "x"),
        ("x" * 60, "x" * 40),
        ("", "my-documents"),
        ("answers@1", "answers-1"),
    ],
)
def test_a_name_that_cannot_be_used_is_answered_with_one_that_can(root, name, proposed):
    assert suggested(name) == proposed
    with pytest.raises(ConfigError, match="cannot name a use case") as caught:
        init(root, order(root, name))
    assert f"workbench init {proposed} " in caught.value.hint
    InitOrder(name=proposed, docs=Path(), questions=Path()).check()


def test_an_existing_name_is_one_error_with_the_next_command(root):
    init(root, order(root))
    for name in ("claims", "small", "brief"):
        before = tree(root)
        with pytest.raises(ConfigError, match="exists already") as caught:
            init(root, order(root, name))
        assert f"workbench init {name}-2" in caught.value.hint and tree(root) == before
        assert ("--undo" in caught.value.hint) == (name == "claims")


def test_a_folder_that_holds_the_repository_is_no_folder_of_documents(root):
    before, link = tree(root), root.parent / "link"
    link.symlink_to(root)
    for docs in (root, root.parent, Path("/"), link, root / "data/.."):
        with pytest.raises(ConfigError, match="holds this repository") as caught:
            init(root, order(root, docs=docs))
        assert "--docs FOLDER" in caught.value.hint and tree(root) == before


def test_a_file_in_the_way_is_never_overwritten(root):
    write(root, "notebooks/claims.ipynb", "mine")
    before = tree(root)
    with pytest.raises(ConfigError, match=r"notebooks/claims\.ipynb would be overwritten"):
        init(root, order(root))
    assert tree(root) == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"docs": "nowhere"}, "nothing at"),
        ({"docs": "empty"}, "no documents"),
        ({"docs": None}, "needs --docs DIR"),
        ({"questions": None}, "needs --questions FILE"),
        ({"questions": "nowhere.jsonl"}, "no file"),
        ({"questions": "none.jsonl"}, "is empty"),
        ({"kind": "answr"}, "nearest: 'answer'"),
        ({"tenant": "A B"}, "cannot name a tenant"),
    ],
)
def test_bad_arguments_are_one_error_and_nothing_is_created(root, changed, said):
    (root.parent / "empty").mkdir()
    (root.parent / "none.jsonl").touch()
    paths = {
        key: root.parent / value for key, value in changed.items() if key in {"docs", "questions"} and value
    }
    before = tree(root)
    with pytest.raises(WorkbenchError) as caught:
        init(root, order(root, **{**changed, **paths}))
    assert said in f"{caught.value}" and caught.value.exit_code == 2
    assert tree(root) == before and not list((root / ".workbench").rglob("*.new"))


class KilledError(BaseException):
    """Ends a command where a kill would: nothing after it runs."""


def killed_at(monkeypatch, step: int) -> None:
    """Let the `step`-th change of a file that a reader sees end the command, without any tidying up."""
    left = step

    def counted(real):
        def change(*given, **named):
            nonlocal left
            left -= 1
            if left == 0:
                raise KilledError
            return real(*given, **named)

        return change

    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr(placing.files, "write_atomic", counted(placing.files.write_atomic))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))


@pytest.mark.parametrize("step", kill_points(range(1, 40, 3)))
def test_after_a_kill_at_any_step_the_same_command_ends_as_it_would_have(root, monkeypatch, step):
    before = tree(root)
    with monkeypatch.context() as patch:
        patch.setattr(placing, "take_back", lambda *_: None)
        killed_at(patch, step)
        try:
            init(root, order(root))
        except KilledError:
            killed = True
        else:
            killed = False
    named = "claims" in config.load_params(root).use_cases
    if killed and not named:
        init(root, order(root))
    else:
        with pytest.raises(ConfigError, match="exists already"):
            init(root, order(root))
    assert check_all(root).passed
    undo(root, "claims")
    assert tree(root) == before


@pytest.mark.parametrize("step", kill_points(range(1, 20, 3)))
def test_a_killed_undo_is_finished_by_the_next_command(root, monkeypatch, step):
    before = tree(root)
    init(root, order(root))
    with monkeypatch.context() as patch:
        killed_at(patch, step)
        with contextlib.suppress(KilledError):
            undo(root, "claims")
    with contextlib.suppress(NotFoundError):  # it was taken away completely
        undo(root, "claims")
    assert tree(root) == before


def raised(*_):
    raise KilledError


def changed_by_a_person(root):
    params = root / PARAMS
    params.write_text(f"# mine\n{params.read_text()}")


def test_what_a_person_writes_into_params_after_a_kill_stays_and_keeps_the_use_case(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(placing, "_done", raised)
        with pytest.raises(KilledError):
            init(root, order(root))
    changed_by_a_person(root)
    init(root, order(root, "others"))
    assert check_all(root).passed and {"claims", "others"} < set(config.load_params(root).use_cases)
    assert (root / PARAMS).read_text().startswith("# mine\n")


def test_what_a_person_writes_into_params_after_a_killed_undo_stays(root, monkeypatch):
    before = tree(root)
    init(root, order(root))
    for verb in ("_finish_removal", "_remove_folders"):
        with monkeypatch.context() as patch:
            patch.setattr(placing, verb, raised)
            with contextlib.suppress(KilledError):
                undo(root, "claims")
        changed_by_a_person(root)
    with placing.alone(root):
        pass
    after = tree(root)
    assert after.pop("params.yaml").decode() == f"# mine\n# mine\n{before.pop('params.yaml').decode()}"
    assert after == before


@pytest.mark.parametrize("name", ["prompts", "memories", "data", "pipelines", "documents"])
def test_undo_of_a_name_that_a_folder_has_leaves_other_use_cases(root, name):
    for folder in ("pipelines/prompts", "pipelines/memories"):
        shutil.rmtree(root / folder)
    params = root / PARAMS
    params.write_text("use_cases: {}\n")
    init(root, order(root, name))
    init(root, order(root, "others"))
    kept = {path: data for path, data in tree(root).items() if "others" in path}
    undo(root, name, force=True)
    assert kept.items() <= tree(root).items() and check_all(root).passed


def test_an_error_while_files_are_moved_leaves_nothing(root, monkeypatch):
    before, made = tree(root), folders(root)
    real = Path.rename

    def full(path, target):
        if target.name == "2.prompty" or "tapes" in str(target):
            raise OSError(28, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(WorkbenchError, match="No space left"):
        init(root, order(root))
    assert tree(root) == before and folders(root) - made <= {".workbench", ".workbench/init"}


def test_undo_takes_everything_away_the_results_of_the_pipeline_too(root):
    before = tree(root)
    init(root, order(root))
    write(root, str(judge_tape_of("claims")), '{"recorded": 1}\n')
    write(root, str(Results(use_case="claims").gate), "{}")
    write(root, "reports/claims.md", "page")
    write(
        root,
        "dvc.lock",
        "schema: '2.0'\nstages:\n  a@small:\n    cmd: x\n  b@claims:\n    cmd: y\n    outs:\n    - path: z\n",
    )
    dry = undo(root, "claims", dry_run=True)
    assert "claims" in config.load_params(root).use_cases
    done = undo(root, "claims")
    assert done.paths == dry.paths and "2 documents" in str(done)
    after = tree(root)
    assert after.pop("dvc.lock").decode() == "schema: '2.0'\nstages:\n  a@small:\n    cmd: x\n"
    assert after == before
    assert not (root / "data/claims").exists()


def test_undo_names_what_was_changed_or_added_and_removes_it_only_by_force(root):
    before = tree(root)
    init(root, order(root))
    write(root, "notebooks/claims.ipynb", (root / "notebooks/claims.ipynb").read_text() + "\n")
    write(root, "pipelines/prompts/claims/2.prompty", "mine")
    params = root / PARAMS
    params.write_text(params.read_text().replace("accuracy: {min: 0.30}", "accuracy: {min: 0.20}"))
    with pytest.raises(ConfigError) as caught:
        undo(root, "claims")
    for path in ("notebooks/claims.ipynb", "pipelines/prompts/claims/2.prompty", "params.yaml"):
        assert path in caught.value.message
    assert "--undo --force" in caught.value.hint and (root / "pipelines/prompts/claims/1.prompty").is_file()
    undo(root, "claims", force=True)
    assert tree(root) == before


def test_undo_keeps_what_is_committed(root):
    init(root, order(root))
    for command in (["add", "--all"], ["commit", "--quiet", "--message", "Claims"]):
        subprocess.run(["git", "-C", root, *command], check=True)
    before = tree(root)
    with pytest.raises(ConfigError, match="is committed") as caught:
        undo(root, "claims", force=True)
    assert "git revert" in caught.value.hint and tree(root) == before


def test_undo_of_a_name_that_init_did_not_create_is_an_error(root):
    init(root, order(root))
    with pytest.raises(NotFoundError, match="did not create the use case 'small'") as caught:
        undo(root, "small")
    assert "git log" in caught.value.hint
    with pytest.raises(NotFoundError, match=r"no use case 'clams'.*'claims'"):
        undo(root, "clams")


def killed_before_params(root, monkeypatch) -> None:
    """Leave what a kill leaves just before params.yaml is replaced: every other file is in place."""
    real = placing.files.write_atomic

    def write_unless_params(path, data, **more):
        if path == root / PARAMS:
            raise KilledError
        return real(path, data, **more)

    with monkeypatch.context() as patch:
        patch.setattr(placing, "take_back", lambda *_: None)
        patch.setattr(placing.files, "write_atomic", write_unless_params)
        with contextlib.suppress(KilledError):
            init(root, order(root))
    assert (root / "notebooks/claims.ipynb").is_file()


def test_undo_takes_an_interrupted_init_away(root, monkeypatch):
    before = tree(root)
    killed_before_params(root, monkeypatch)
    gone = undo(root, "claims")
    assert "notebooks/claims.ipynb" in gone.paths and "is taken away" in str(gone)
    assert tree(root) == before


def test_undo_names_the_changed_files_of_an_interrupted_init_and_keeps_them(root, monkeypatch):
    killed_before_params(root, monkeypatch)
    write(root, "notebooks/claims.ipynb", "mine")
    with pytest.raises(ConfigError, match=r"are kept: notebooks/claims\.ipynb"):
        undo(root, "claims")
    assert (root / "notebooks/claims.ipynb").read_text() == "mine"
    assert not (root / "data/claims").exists()


def test_undo_leaves_nothing_of_the_pipeline_in_the_index_of_git(root):
    lock = "schema: '2.0'\nstages:\n  a@small:\n    cmd: x\n"
    write(root, "dvc.lock", lock)
    for command in (["add", "--all"], ["commit", "--quiet", "--message", "Start"]):
        subprocess.run(["git", "-C", root, *command], check=True)
    init(root, order(root))
    write(root, "dvc.lock", lock + "  b@claims:\n    cmd: y\n")
    subprocess.run(["git", "-C", root, "add", "dvc.lock"], check=True)
    undo(root, "claims")
    assert subprocess.check_output(["git", "-C", root, "status", "--short"]) == b""


def test_a_notebook_of_ones_own_is_copied_in_its_stored_form_and_never_changed(root):
    own = root.parent / "mine.ipynb"
    cells = ((["parameters"], 'use_case = "x"\ninputs = ""'), *CELLS[1:])
    text = notebook(cells=cells).replace('wb.connect(\\"small\\")', "wb.connect(use_case)")
    own.write_text(text)
    init(root, order(root, notebook=own))
    case = config.load_params(root).use_cases["claims"]
    assert own.read_text() == text and case.parameters == {"use_case": "claims"} and case.baseline is None
    assert check_all(root).passed
    assert "wb.connect(use_case)" in (root / "notebooks/claims.ipynb").read_text()


def test_a_notebook_that_lacks_parts_is_answered_with_the_lines_to_add(root):
    own = root.parent / "mine.ipynb"
    own.write_text(notebook(cells=(([], "k = 1"), (["explore"], CELLS[-1][1]), ([], 'wb.connect("other")'))))
    before = tree(root)
    with pytest.raises(ConfigError, match="4 parts are missing") as caught:
        init(root, order(root, notebook=own))
    for line in (
        'inputs = ""',
        "@wb.task",
        "ws.publish(answer.map(ws.inputs(inputs))",
        "wb.connect('claims')",
    ):
        assert line in caught.value.hint
    assert tree(root) == before


def test_a_syntax_error_in_a_notebook_is_named_with_cell_and_line(root):
    own = root.parent / "mine.ipynb"
    own.write_text(notebook(cells=(([], "k = 1"), (["explore"], "x = ("), ([], "k = 2\ny = )"))))
    with pytest.raises(ConfigError, match=r"cell 3, line 2: .*unmatched"):
        init(root, order(root, notebook=own))


def test_a_damaged_notebook_is_not_answered_with_git_checkout(root):
    own = root.parent / "mine.ipynb"
    own.write_text("{")
    with pytest.raises(ConfigError) as caught:
        init(root, order(root, notebook=own))
    assert "git checkout" not in caught.value.hint and "repair" in caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--force"], "--force goes with --undo"),
        (["--undo", "--docs", "x"], "reads no --docs"),
        (["--kind", "clasify"], "--kind classify"),
    ],
)
def test_an_option_that_would_be_ignored_is_an_error(root, monkeypatch, arguments, said):
    monkeypatch.chdir(root)
    done = CliRunner().invoke(cli, ["init", "claims", *arguments])
    assert getattr(done.exception, "exit_code", done.exit_code) == 2
    assert said in f"{done.output}{done.exception}"


def test_outside_of_a_repository_the_command_for_a_new_one_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["init", "claims", "--undo"])
    assert isinstance(done.exception, NotFoundError) and "workbench new FOLDER" in done.exception.hint


def test_the_command_prints_what_it_wrote_and_takes_it_away(root, monkeypatch):
    monkeypatch.chdir(root)
    arguments = ["init", "claims", "--docs", "../docs", "--questions", "../questions.jsonl"]
    done = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0 and json.loads(done.stdout)["files"][0] == "data/claims/questions.jsonl"
    gone = CliRunner().invoke(cli, ["init", "claims", "--undo"], catch_exceptions=False)
    assert gone.exit_code == 0 and "is taken away" in gone.stdout
    assert not (root / NOTEBOOK.replace("small", "claims")).exists()


def test_documents_may_lie_in_the_repository_already(root):
    write(root, "papers/acme/rent.md", page("rent", "A van may be rented for 75 euros a day."))
    row = {
        "id": "v",
        "tenant": "acme",
        "question": "What costs a van?",
        "page": "rent",
        "answers": ["75 euros"],
    }
    write(root, "papers.jsonl", json.dumps(row) + "\n")
    init(root, order(root, docs=root / "papers", questions=root / "papers.jsonl"))
    assert check_all(root).passed and (root / "data/claims/documents/acme/rent.md").is_file()
