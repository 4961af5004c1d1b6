"""A notebook that tries to get through the wall, as a judged run and as a job, confined on this machine.

docs/threats.md says what is prevented. The ways out of the confinement itself are in test_confinement.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path

import psutil
import pytest
import red_tries
from endpoint import endpoint, speaking
from small_use_case import CELLS, NOTEBOOK, PUBLISH, TASK, notebook, page, small_repository, write
from test_run_gateway import request as job_request

from workbench import config, layout
from workbench.confinement.supported import support
from workbench.files import folders
from workbench.layout import Results
from workbench.pipeline import judge as stage
from workbench.pipeline import stages
from workbench.testing.fakes import FakeModel
from workbench.worker import work
from workbench.workspace import connection as connecting

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        support().level != "full", reason=f"this machine lacks {'; '.join(support().missing)}"
    ),
]
RESULTS = Results(use_case="small")
#: Files that a kernel must not read, beside those that the stages write.
SECRETS = (
    ".workbench/state/gateway/secrets.json", ".workbench/state/gateway/owner",
    ".workbench/state/audit-keys/key.pem", ".workbench/state/outputs/small/saved.json",
    ".workbench/state/runs/1/run.parquet", ".workbench/cache/executed/old.ipynb",
    "results/small/judged/candidate.parquet", "reports/small.md", ".git/HEAD", ".dvc/cache/copy",
    ".dvc/__init__.py", "published/small/acme/answers.parquet", "pipelines/scorers/brief.py",
)  # fmt: skip


def passage(payload) -> str:
    return payload["messages"][-1]["content"].split("Question:")[0].strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A prepared use case of two tenants beside another one, and what its author left on the machine."""
    root, user = tmp_path_factory.mktemp("red") / "small", tmp_path_factory.mktemp("user")
    with (
        endpoint(speaking(FakeModel(passage))) as url,
        socket.socket(socket.AF_UNIX) as abstract,
        pytest.MonkeyPatch.context() as patch,
    ):
        abstract.bind("\0workbench-red")
        abstract.listen()
        small_repository(root, endpoint=url)
        params = (root / "params.yaml").read_text().replace("tenants: [acme]", "tenants: [acme, globex]")
        other = params.partition("use_cases:\n")[2].replace("  small:", "  other:")
        write(root, "params.yaml", params + other.replace("reports/small", "reports/other"))
        write(root, "data/small/globex/hotel.md", page("hotel", "Globex pays.").replace("acme", "globex"))
        for name in SECRETS:
            write(root, name, '{"n": "30 days"}')
        write(root, str(RESULTS.judge_tape), "")
        write(user, "copy.jsonl", "30 days")
        patch.chdir(root)
        patch.setenv("OPENAI_API_KEY", "k-123")
        assert [stages.main([name, "small"]) for name in ("prepare", "remember")] == [0, 0]
        told = explored(root)
        values = {
            "BASE": url, "SOCKET": str(user / "listening"), "USER": str(user), "BEFORE": told,
            "CALLS": [str(path) for path in (root / layout.CALLS).rglob("*") if path.is_file()],
            "AUDIT": [str(path) for path in (root / layout.AUDIT).rglob("*") if path.is_file()],
            "TAPE": str(RESULTS.judge_tape),
            "SNAPSHOT": [str(path) for path in sorted((root / RESULTS.memory).iterdir())],
        }  # fmt: skip
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(values["SOCKET"])
            listening.listen()
            cells = [([], source) for source in red_tries.cells(**values)]
            write(root, NOTEBOOK, notebook(cells=(CELLS[0], ([], TASK), ([], PUBLISH), *cells)))
            yield root
    shutil.rmtree(root)


def explored(root) -> str:
    """Explore as the author, who tells a judged notebook an answer by each record that it could read."""
    ws = connecting.connect("small").session("told")
    reply = ws.model().chat("the answer to q1 is 30 days")
    ws.outcome(reply, "q1_is_30_days")
    ws.outcome(session="told", name="q1_is_30_days_too")
    question, journal = "What is the answer to q1?", root / layout.JOURNAL
    connecting.connect("other").model().chat(question)
    journal.write_text(journal.read_text().replace(f'"content":"{question}"', '"content":"FORGED"'))
    assert connecting.connect("other").model().chat(question).text == "FORGED"
    return reply.trace_id


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of the tries in a judged run or a job."""

    kind: str
    told: dict[str, str]


def judged(root) -> dict:
    found = {}

    def take(kernel, *args, **options):
        found.update(json.loads((kernel / "told.json").read_bytes()))
        return taking(kernel, *args, **options)

    taking = stage.take
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "take", take)
        run = stage.judge(root, "small", show=False)
    assert run.cases["status"].to_list() == ["scored"] * 4
    return found


def ran_as_job(root, folder: Path) -> dict:
    request = job_request(root, folder, "a1b2c3")
    assert work(dataclasses.replace(request, tenant="acme")).counts["answered"] == 4
    return json.loads((folder / "kernel/told.json").read_bytes())


@pytest.fixture(scope="module", params=["judged", "job"])
def tried(made, request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.setenv("OPENAI_API_KEY", "k-123")
        folder = tmp_path_factory.mktemp("run")
        told = judged(made) if request.param == "judged" else ran_as_job(made, folder / "run")
        assert processes_of(made, folder) == []
    folders.remove(folder)  # as the runner does; pytest cannot remove a folder of such a depth
    assert not folder.exists()
    return Tried(kind=request.param, told=told)


def processes_of(*folders: Path) -> list[str]:
    """The processes whose environment names one of these folders, as that of a run's kernel does."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            told = process.environ().get(config.EXECUTION_VARIABLE, "")
            if process.pid != os.getpid() and any(str(folder) in told for folder in folders):
                found.append(f"{process.pid} {process.status()}")
    return found


def test_every_try_was_made(tried):
    assert tried.told.keys() == {f"{group}: {name}" for group, name, *_ in red_tries.FOUND}


def test_the_key_of_the_provider_is_out_of_reach(tried):
    assert red_tries.unexpected(tried.told, "key") == {}


def test_nothing_is_called_around_the_gateway(tried):
    assert red_tries.unexpected(tried.told, "network") == {}


def test_principal_tenant_and_run_stay(tried):
    tenant = "RefusedError" if tried.kind == "job" else '{"end"'
    assert red_tries.unexpected(tried.told, "rights", TENANT=tenant) == {}


def test_what_a_caller_may_not_state_is_refused(tried):
    assert red_tries.unexpected(tried.told, "client", REPLY="None") == {}


def test_a_run_reads_and_marks_its_own_records_alone(tried):
    assert red_tries.unexpected(tried.told, "records") == {}


def test_tape_journal_cache_records_and_runs_are_not_written(tried):
    assert red_tries.unexpected(tried.told, "forging") == {}


def test_dataset_results_history_and_other_tenants_are_not_read(tried):
    assert red_tries.unexpected(tried.told, "reading") == {}


def test_a_flood_keeps_no_call_from_its_answer(tried):
    assert red_tries.unexpected(tried.told, "flood") == {}


def test_what_a_kernel_leaves_is_ended_and_removed(tried, made):
    """Its processes have ended: the fixture `tried` looks for them."""
    assert red_tries.unexpected(tried.told, "left") == {}
    own = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    assert not list(own.glob(f"workbench-run-{os.getpid()}-*"))
    assert not list((made / layout.CACHE / "judging").glob("*"))
