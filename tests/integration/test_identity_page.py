"""docs/identity.md, followed to the letter: its settings are valid, and its code does what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from documented_pages import blocks_of, copy_to, page_of, run
from issuer import Issuer

from workbench import config

PAGE = page_of("identity.md")
OIDC, DEMAND, CI = blocks_of(PAGE, "yaml")


@pytest.fixture
def copy(tmp_path):
    return copy_to(tmp_path)


def stated(copy: Path, block: str) -> config.Params:
    path = copy / "params.yaml"
    path.write_text(path.read_text() + block)
    return config.load_params(copy)


def test_the_code_of_the_page_does_what_it_says(copy, monkeypatch):
    issuer = Issuer()
    keys = copy / str(stated(copy, OIDC).identity.keys)
    keys.parent.mkdir(parents=True)
    keys.write_bytes(issuer.jwks())
    token = issuer.token(email="service@example.com", groups=["people"], level=0, org="acme")
    monkeypatch.setenv("WORKBENCH_TOKEN", token)
    code = "\n".join(blocks_of(PAGE, "python"))
    assert code.count("assert") >= 1
    shown = run(copy, sys.executable, "-c", code)
    assert "no signed JSON Web Token" in shown
    assert [what for what in ("clearance 9", "groups board", "name ann", "admin") if what not in shown] == []
    files = (path for path in copy.rglob("*") if path.is_file())
    assert [path for path in files if token.encode() in path.read_bytes()] == []


def test_the_settings_of_the_page_are_valid(copy):
    text = (copy / "params.yaml").read_text()
    key = DEMAND.partition("  answers:\n")[2]
    (copy / "params.yaml").write_text(text.replace("  answers:\n", f"  answers:\n{key}", 1))
    found = stated(copy, CI)
    assert found.use_cases["answers"].assurance == "authenticated" and found.identity.provider == "ci"
