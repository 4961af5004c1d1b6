from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from journals import entry, journal_of
from memory_bench import Bench, write_page

from workbench import config, layout
from workbench.audit import Filter, rows_of
from workbench.cli import memory as cli_memory
from workbench.errors import ConfigError, NotFoundError, PolicyError, WorkbenchError
from workbench.workspace import connection

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    write_page(tmp_path, "acme/taxi.md", body="Taxis are paid.", subject="ann")
    folder = write_page(tmp_path, "globex/hotel.md", body="Hotels are paid.", tenant="globex")
    made = Bench(tmp_path, folder, kind="episodic")
    made.closed = 0

    class Workspace:
        use_case = SimpleNamespace(tenants=("acme", "globex", "empty"))
        boundary = made

        def __init__(self, tenant="acme"):
            self.tenant = tenant

        def bind(self, *, tenant):
            return Workspace(tenant)

        def memory(self, reference):
            assert reference in {None, "m@1"}
            return made.handle_of(self.tenant)

        def close(self):
            made.closed += 1

    monkeypatch.setattr(connection, "connect", lambda use_case, *, tenant, **how: Workspace(tenant))
    monkeypatch.setattr(config, "find_root", lambda: tmp_path)
    params = SimpleNamespace(use_cases={"u": None})
    monkeypatch.setattr(config, "load_params", lambda root: params)
    made.params = params
    return made


def run(*words, ok=0):
    """What a command prints; an error of ours is raised."""
    done = CliRunner().invoke(cli_memory.memory, list(map(str, words)))
    if isinstance(done.exception, WorkbenchError):
        raise done.exception
    assert done.exit_code == ok, done.output or done.exception
    return done.output


def test_an_ingest_is_of_every_tenant_that_has_pages_and_again_changes_nothing(bench):
    assert run("ingest").splitlines() == [
        "acme: version 1: 1 added, 0 unchanged, 0 replaced",
        "globex: version 1: 1 added, 0 unchanged, 0 replaced",
    ]  # fmt: skip
    again = json.loads(run("ingest", "--tenant", "acme", "--json"))
    assert again["acme"] == {
        "added": 0, "unchanged": 1, "replaced": 0, "version": 1, "other_tenants": 1, "left_out": [],
    }  # fmt: skip
    assert "1 pages of other tenants skipped" in run("ingest", "--tenant", "acme")
    assert bench.closed == 3


def test_an_ingest_names_every_file_that_its_policy_left_out(bench, tmp_path):
    for name, text in (("acme/a.txt", "Taxis are paid."), ("acme/b.txt", ""), ("acme/c.png", "x")):
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / name).write_text(text)
    bench.spec = dataclasses.replace(bench.spec, tenants="folders", unreadable="skip")
    said = run("ingest", tmp_path / "docs").splitlines()
    assert said[0] == "acme: version 1: 1 added, 0 unchanged, 0 replaced"
    assert len(said) == 3 and "b.txt: it is empty" in said[1] and ".png: not a document" in said[2]
    found = json.loads(run("ingest", tmp_path / "docs", "--json"))
    assert len(found["acme"]["left_out"]) == 2
    bench.spec = dataclasses.replace(bench.spec, unreadable="stop")
    with pytest.raises(ConfigError, match=r"1 of 2 documents cannot be read: .*b\.txt: it is empty"):
        run("ingest", tmp_path / "docs")


def test_pages_of_another_folder_are_not_said_to_have_changed_until_the_declared_source_differs(
    bench, tmp_path
):
    run("ingest", write_page(tmp_path / "other", "acme/ship.md", body="Ships are paid."))
    assert "source changed" not in run("search", "ships", "--tenant", "acme")
    write_page(tmp_path, "acme/ship.md", body="Ships are not paid.")
    assert "source changed" in run("search", "ships", "--tenant", "acme")


def test_an_ingest_of_a_folder_with_pages_of_nobody_served_says_whose_they_are(bench, tmp_path):
    other = write_page(tmp_path / "other", "initech/a.md", tenant="initech")
    with pytest.raises(ConfigError, match="they belong to initech") as caught:
        run("ingest", other)
    assert "use_cases.u.tenants" in caught.value.hint


def test_versions_diff_and_restore_work_on_the_command_line(bench, tmp_path):
    assert run("versions").strip() == "no version yet; next: workbench memory ingest"
    run("ingest")
    write_page(tmp_path, "acme/taxi.md", body="Taxis are not paid.", subject="ann")
    assert re.search(r"changed +taxi", run("diff", "--sources"))
    run("ingest")
    assert re.search(r"changed +taxi +1 -> 1 chunks", run("diff", 1, 2, "--tenant", "acme"))
    assert (
        json.loads(run("diff", "1", "2", "--tenant", "acme", "--json"))["acme"]["sources"][0]["change"]
        == "changed"
    )
    assert run("restore", 1, "--tenant", "acme").startswith(
        "acme: version 3 active: 1 items added, 1 removed"
    )
    numbers = [line.split()[2] for line in run("versions", "--tenant", "acme").splitlines()]
    assert numbers == ["1", "2", "3"]
    assert "Taxis are paid." in run("search", "taxis")
    assert "not paid" in run("search", "taxis", "--version", 2) and bench.closed


def test_a_snapshot_is_of_all_tenants_and_is_restored_for_all_of_them(bench, tmp_path):
    with pytest.raises(NotFoundError, match="m@1 has no items"):
        run("snapshot")
    run("ingest")
    assert "acme 1, globex 1 items" in run("snapshot")
    written = json.loads(run("snapshot", tmp_path / "snap", "--json"))
    assert written["items"] == {"acme": 1, "globex": 1} and written["folder"] == str(tmp_path / "snap")
    (tmp_path / "pages/acme/taxi.md").unlink()
    write_page(tmp_path, "acme/ship.md", body="Ships.")
    run("ingest")
    (tmp_path / "snap").rename(tmp_path / ".snap.before-0123abcd")  # as who is killed while writing it again
    done = json.loads(run("restore", tmp_path / "snap", "--json"))
    assert {tenant: one["added"] for tenant, one in done.items()} == {"acme": 1, "globex": 0}
    with pytest.raises(NotFoundError, match="has no items of empty"):
        run("restore", tmp_path / "snap", "--tenant", "empty")


def test_forgetting_less_than_asked_because_of_a_hold_exits_with_1_and_says_so(bench):
    run("ingest")
    assert run("hold", "--tenant", "acme", "--subject", "ann") == "acme: 1 items are under this hold\n"
    said = run("forget", "--tenant", "acme", "--subject", "ann", ok=1)
    assert "0 items forgotten" in said and "1 are under legal hold and stay" in said
    assert run("release", "--tenant", "acme", "--subject", "ann") == "acme: this hold had 1 items\n"
    assert "1 items would be forgotten" in run("forget", "--tenant", "acme", "--source", "taxi", "--dry-run")
    assert bench.handle_of().count() == 1
    assert "1 items forgotten" in run(
        "forget", "--tenant", "acme", "--id", bench.handle_of().search("taxis")[0].id
    )
    assert bench.handle_of().count() == 0


def test_forgetting_says_how_many_recorded_answers_it_removed(bench, tmp_path):
    run("ingest")
    text = "Taxis are paid."
    journal_of(tmp_path / layout.JOURNAL, entry("one", content=text), entry("two", said=text), entry("three"))
    words = ("forget", "--tenant", "acme", "--subject", "ann")
    assert "recorded answers" not in run(*words, "--dry-run")
    assert run(*words) == "acme: 1 items forgotten, 0 of them derived; 2 recorded answers removed\n"
    assert json.loads(run(*words, "--json"))["acme"]["journal_entries"] == 0


def test_expired_items_are_forgotten_or_purged_for_all_tenants(bench):
    for tenant in ("acme", "globex"):
        bench.handle_of(tenant).remember("Soon gone.", expires="2026-01-02T00:00:00Z")
    bench.clock.set("2026-01-03T00:00:00")
    stats = json.loads(run("stats", "--json"))
    assert [stats[tenant]["expired"] for tenant in ("acme", "globex", "empty")] == [1, 1, 0]
    assert "1 expired, 0 held; episode 1" in run("stats", "--tenant", "acme")
    assert run("forget", "--expired", "--tenant", "acme").startswith("acme: 1 items forgotten")
    assert "globex: 1 expired" in run("sweep")
    assert bench.handle_of("globex").count() == 0


def test_what_needs_one_tenant_or_one_selector_says_how_to_name_it(bench):
    run("ingest")
    for words in (
        ("forget", "--subject", "ann"),
        ("diff", 1, 1),
        ("restore", 1),
        ("hold", "--source", "taxi"),
    ):
        with pytest.raises(ConfigError, match="needs one tenant") as caught:
            run(*words)
        assert "--tenant acme" in caught.value.hint
    for words in (("diff",), ("diff", 1), ("diff", 1, 2, "--sources")):
        with pytest.raises(ConfigError, match="diff takes two versions"):
            run(*words)
    with pytest.raises(ConfigError, match="exactly one"):
        run("forget", "--tenant", "acme")
    bench.params.use_cases["v"] = None
    with pytest.raises(ConfigError, match="2 use cases") as caught:
        run("stats")
    assert caught.value.hint == "name one of them: --use-case u"
    assert run("stats", "--use-case", "u", "--memory", "m@1")


@pytest.mark.parametrize(
    "name", sorted(name for name, command in cli_memory.memory.commands.items() if not command.hidden)
)
def test_every_command_has_help_with_an_example_of_itself(name):
    text = run(name, "--help")
    assert f"workbench memory {name}" in text and "Example" in text and "--tenant" in text


@pytest.mark.parametrize("verb", ["grant", "revoke"])
def test_keys_of_tenants_are_decided_by_the_policies(tmp_path, monkeypatch, verb):
    for name in ("pipelines", "notebooks", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    params = tmp_path / "params.yaml"
    monkeypatch.chdir(tmp_path)
    params.write_text((ROOT / "params.yaml").read_text())
    with pytest.raises(ConfigError, match="embedded"):  # permitted, but there is no server
        run(verb, "--use-case", "answers")
    params.write_text(params.read_text().replace("  answers:\n", "  answers:\n    admins: [nobody]\n", 1))
    with pytest.raises(PolicyError, match="manage_keys"):
        run(verb, "--use-case", "answers", "--tenant", "acme")
    begun, refused = rows_of(tmp_path / layout.AUDIT, Filter(tenant="acme"), tmp_path / layout.AUDIT_KEYS)
    assert (begun["status"], refused["status_detail"]) == ("Begun", "PolicyError")
    assert refused["decision"]["allowed"] is False and refused["activity"] == f"{verb}_key"
