"""Who the operating system says is calling."""

from __future__ import annotations

import dataclasses
import os
import pwd
from pathlib import Path

import polars as pl
import pytest

import workbench as wb
from workbench import identity
from workbench.config import Execution
from workbench.errors import ConfigError, RefusedError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("variable", ["LOGNAME", "USER", "LNAME", "USERNAME"])
def test_the_name_is_the_user_id_s_whatever_the_environment_says(monkeypatch, variable):
    monkeypatch.setenv(variable, "boss")
    principal = identity.from_system()
    assert principal.name == pwd.getpwuid(os.getuid()).pw_name != "boss"
    assert principal.assurance == "asserted" and not principal.admin
    assert wb.connect("answers", root=ROOT, mode="replay").context.principal.name == principal.name


def test_a_user_id_without_an_entry_is_named_by_its_number(monkeypatch):
    monkeypatch.setenv("LOGNAME", "boss")
    monkeypatch.setattr(os, "getuid", lambda: 54_321_098)
    assert identity.from_system().name == "uid-54321098"


def test_an_empty_tenant_is_refused_and_not_taken_for_the_first():
    with pytest.raises(ConfigError, match="the tenant is empty"):
        wb.connect("answers", root=ROOT, tenant="")
    with pytest.raises(ConfigError, match="the tenant is empty"):
        wb.connect("answers", root=ROOT, mode="replay").bind(tenant="")


def test_the_former_name_of_admin_is_accepted_with_a_hint():
    with pytest.warns(DeprecationWarning, match=r"keeper.*admin"):
        principal = identity.Principal(name="ann", keeper=True)
    assert principal == identity.Principal(name="ann", admin=True)
    assert not dataclasses.replace(principal, admin=False).admin
    with pytest.warns(DeprecationWarning, match="admin"):
        assert not identity.Principal(name="ann", keeper=False).admin


def test_a_job_that_connects_to_another_use_case_stays_the_job(monkeypatch):
    running = Execution(notebook="n", use_case="answers", job="answers", run="r1", tenant="acme")
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    ws = wb.connect("triage", root=ROOT, mode="replay")
    assert ws.context.principal.name == "job:answers" and not ws.context.principal.admin
    assert (ws.context.purpose, ws.context.job, ws.context.run, ws.tenant) == ("job", "answers", "r1", "acme")
    with pytest.raises(RefusedError, match="acme"):
        ws.bind(tenant="globex")


def test_the_items_of_a_memory_are_no_inputs(tmp_path):
    ws = wb.connect("answers", root=ROOT, mode="replay")
    snapshot = tmp_path / "globex.parquet"
    item = {"id": "1", "text": "t", "access": ["board"], "classification": 3, "source_digest": "d"}
    pl.DataFrame([item]).write_parquet(snapshot)
    with pytest.raises(RefusedError, match="access lists") as caught:
        ws.inputs(str(snapshot))
    assert "search" in caught.value.hint
