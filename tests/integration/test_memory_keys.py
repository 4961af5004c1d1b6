"""`workbench memory grant`, `deactivate` and `revoke` on a server with access control, as users type them."""

import json

import pytest
from click.testing import CliRunner
from switched_use_case import needs_a_server, switch, switched_repository

from workbench.cli import app
from workbench.memory.weaviate.local_server import LocalServer

ADMIN = "WEAVIATE_ADMIN_KEY"


@pytest.fixture
def own_server(tmp_path, monkeypatch):
    needs_a_server()
    monkeypatch.setenv(ADMIN, "key-of-the-administrator")
    with LocalServer(tmp_path / "server", api_key_env=ADMIN) as running:
        yield running


def typed(*arguments):
    return CliRunner().invoke(app.cli, ["memory", *arguments], catch_exceptions=True)


def test_a_tenant_s_key_opens_its_own_tenant_alone_and_ends_when_revoked(own_server, tmp_path, monkeypatch):
    root = switched_repository(tmp_path / "repo", memory="keyed", server=own_server)
    monkeypatch.chdir(root)
    assert typed("ingest", "--tenant", "acme").exit_code == 0
    keys = json.loads(typed("grant", "--tenant", "acme", "--json").output)
    assert keys.keys() == {"acme"}

    switch(root, own_server, memory_api_key_env="WEAVIATE_KEY_{tenant}")
    without = typed("stats", "--tenant", "acme")
    assert without.exit_code != 0
    assert "WEAVIATE_KEY_ACME" in f"{without.output}{without.exception}"

    monkeypatch.setenv("WEAVIATE_KEY_ACME", keys["acme"])
    assert "taxi" in typed("search", "May I take a taxi?", "--tenant", "acme").output
    assert typed("deactivate", "--tenant", "acme").output.startswith("1 tenants deactivated")
    assert "taxi" in typed("search", "May I take a taxi?", "--tenant", "acme").output  # and is active again

    again = json.loads(typed("grant", "--tenant", "acme", "--json").output)
    assert again["acme"] != keys["acme"]
    refused = typed("search", "May I take a taxi?", "--tenant", "acme")
    assert refused.exit_code != 0
    assert "taxi" not in refused.output

    monkeypatch.setenv("WEAVIATE_KEY_ACME", again["acme"])
    assert "key revoked" in typed("revoke", "--tenant", "acme").output
    assert typed("stats", "--tenant", "acme").exit_code != 0


def test_an_embedded_memory_has_no_keys(tmp_path, monkeypatch):
    root = switched_repository(tmp_path / "repo", memory="embedded")
    monkeypatch.chdir(root)
    for verb in ("grant", "revoke", "deactivate", "rest"):
        done = typed(verb, "--tenant", "acme")
        assert done.exit_code != 0
        assert "is embedded" in str(done.exception)
