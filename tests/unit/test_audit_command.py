"""`workbench audit …`: show, verify, key, export and purge at the command line."""

import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from workbench import layout
from workbench.audit import Act, Chain, chain_at
from workbench.audit.acts import row_of_act
from workbench.audit.export import purge
from workbench.audit.signing import AuditPseudonyms
from workbench.cli.app import cli
from workbench.errors import ConfigError
from workbench.identity import Principal

ROOT = Path(__file__).resolve().parents[2]
ADA = Principal(name="ada")


def act(activity="promote", day="2026-11-30", **more) -> dict:
    made = Act(activity=activity, principal=ADA, type="Job", name="answers", tenant="acme", **more)
    return made, dt.datetime.fromisoformat(f"{day}T09:00:00+00:00")


def append(root, *acts) -> Chain:
    chain = Chain(root / layout.AUDIT, root / layout.AUDIT_KEYS)
    names = AuditPseudonyms.load(chain.keys)
    for made, at in acts:
        chain.append(row_of_act(made, names, now=at))
    chain.close()
    return chain


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    append(tmp_path, act(), act("publish", day="2026-12-01"))
    yield tmp_path
    chain_at(tmp_path).close()


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, ["audit", *arguments])
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_rows_are_shown_and_chosen(root):
    assert "promote" in run("show") and "publish" in run("show") and "ada" not in run("show")
    chosen = {
        ("--action", "promote"): ["promote"],
        ("--since", "2026-12-01", "--tenant", "acme"): ["publish"],
        ("--principal", "ada", "-n", "1", "--action", "publish"): ["publish"],
        ("--tenant", "globex"): [],
        ("--principal", "bob"): [],
    }
    for options, activities in chosen.items():
        assert [row["activity"] for row in json.loads(run("show", *options, "--json"))] == activities


def test_rows_of_use_cases_of_other_admins_are_left_out(root):
    append(root, act("open_content", use_case="answers"))
    assert "open_content" in run("show")
    text = (
        (root / "params.yaml").read_text().replace("\n  answers:\n", "\n  answers:\n    admins: [zoe]\n", 1)
    )
    (root / "params.yaml").write_text(text)
    assert "open_content" not in run("show") and "promote" in run("show")
    assert run("show", "--action", "open_content").endswith(
        "1 use case whose admins in params.yaml do not name you: answers\n"
    )


def test_a_repository_without_a_log_has_no_rows(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    assert "no rows" in run("show") and "left out" not in run("show")
    with pytest.raises(ConfigError, match="no audit log"):
        run("export", "out")


def test_an_export_verifies_on_a_machine_without_a_repository(root, tmp_path_factory, monkeypatch):
    assert "next: workbench audit verify" in run("export", "out")
    away = tmp_path_factory.mktemp("auditor")
    (root / "out").rename(away / "out")
    monkeypatch.chdir(away / "out")
    told = {path.name for path in (away / "out").rglob("*")}
    assert {"README.md", "public.pem", "checkpoint.jsonl", "head.json"} <= told
    assert not any("PRIVATE" in path.read_text() for path in (away / "out").rglob("*.*") if path.is_file())
    options = ("--public-key", "public.pem", "--checkpoint", "checkpoint.jsonl")
    assert "PASS" in run("verify", "log", *options)
    with pytest.raises(ConfigError, match="is an export") as caught:
        run("verify", str(away / "out"), *options)
    assert f"verify {away / 'out' / 'log'}" in caught.value.hint
    segment = next(path for path in (away / "out" / "log").glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b"promote", b"publish"))
    assert "FAIL" in run("verify", "log", *options, code=1)
    assert json.loads(run("verify", "log", *options, "--json", code=1))["problems"][0]["row"] == 1


def test_the_instructions_of_an_export_are_the_command_that_works(root, monkeypatch):
    run("export", "out")
    monkeypatch.chdir(root / "out")
    (line,) = [
        line for line in (root / "out" / "README.md").read_text().splitlines() if "audit verify" in line
    ]
    assert "PASS" in run(*line.split()[2:])


def test_an_export_leaves_another_folder_alone(root):
    (root / "out").mkdir()
    with pytest.raises(ConfigError, match="exists"):
        run("export", "out")
    assert list((root / "out").iterdir()) == []


def test_the_key_is_the_public_one(root):
    assert "BEGIN PUBLIC KEY" in run("key") and "PRIVATE" not in run("key")
    (root / "public.pem").write_text(run("key"))
    assert "PASS" in run("verify", str(layout.AUDIT), "--public-key", "public.pem")


def test_purge_removes_old_days_and_the_log_still_verifies(root):
    (root / "public.pem").write_text(run("key"))
    assert "removed 1 audit rows" in run("purge", "--before", "2026-12-01")
    rows = json.loads(run("show", "--json", "-n", "100"))
    assert rows[0]["activity"] == "publish" and rows[0]["seq"] == 2
    chain_at(root).close()
    assert "PASS" in run("verify", str(layout.AUDIT), "--public-key", "public.pem")
    assert "removed 0" in run("purge", "--before", "2026-12-01")
    first = min((root / layout.AUDIT).glob("*.jsonl"))
    lines = first.read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join(lines[1:]))
    assert "no purge is stated" in run("verify", str(layout.AUDIT), "--public-key", "public.pem", code=1)


def test_purge_needs_a_day_or_a_retention(root):
    with pytest.raises(ConfigError, match="retention"):
        run("purge")
    with (root / "params.yaml").open("a") as file:
        file.write("retention: {audit_days: 1}\n")
    assert "removed" in run("purge")
    assert purge(Chain(root / "none", root / "keys"), dt.date(2026, 1, 1), by=ADA) == 0
