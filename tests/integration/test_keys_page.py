"""docs/keys.md, followed to the letter: its commands issue, rotate and revoke a key, its policy is valid."""

from __future__ import annotations

import re
import shlex

import pytest
from click.testing import CliRunner
from documented_pages import blocks_of, copy_to, page_of

from workbench import config
from workbench.cli.app import cli
from workbench.config import BudgetRule
from workbench.errors import UnauthenticatedError
from workbench.identities.grants import Authenticator
from workbench.identity import Principal
from workbench.layout import API_KEYS, OWNER_TOKEN
from workbench.policy.engine import CedarPolicy
from workbench.policy.source import FOLDER, read_source
from workbench.policy.validation import validate
from workbench.ports.policy import PolicyRequest, Resource

PAGE = page_of("keys.md")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    copy_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_page_issue_rotate_and_revoke_a_key(repository):
    ids: list[str] = []

    def run(line):
        arguments = shlex.split(line.removeprefix("$ ").replace("ID", ids[-1] if ids else "ID"))[1:]
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    issue, rest = blocks_of(PAGE, "console")
    ids.append(run(issue.strip()).split()[2])
    ours, keys = Authenticator(repository), {}
    listed, show, rotate, revoke = rest.strip().splitlines()
    assert ids[0] in run(listed) and "job:reports" in run(show)
    new = run(rotate).split()[2]
    for name in ("reports", "reports-2"):
        keys[name] = f"Bearer {(repository / f'{name}.key').read_text().strip()}"
    assert (ours.grant(keys["reports"]).api_key, ours.grant(keys["reports-2"]).api_key) == (ids[0], new)
    run(revoke)
    with pytest.raises(UnauthenticatedError):
        ours.grant(keys["reports"])
    assert ours.grant(keys["reports-2"]).use_cases == {"answers"}


def test_the_policies_of_the_page_are_valid_and_decide_as_it_says(repository):
    (repository / FOLDER / "house.cedar").write_text("\n".join(blocks_of(PAGE, "cedar")))
    wrong = [item.what for item in validate(read_source(repository)) if not item.warning]
    assert wrong == []

    def decided(**context):
        external = bool(context.pop("external", False))
        model = Resource(type="Model", id="m", tenant="acme", attributes={"external": external})
        request = PolicyRequest(
            principal=Principal(name="ada"),
            tenant="acme",
            action="model.chat",
            resource=model,
            context=context,
        )
        return CedarPolicy.of(repository).decide(request).policies

    assert decided(api_key_kind="owner", external=True) == ("keys-alone",)
    assert decided(api_key_kind="key", external=True) == ("ask-models",)
    assert decided(api_key_kind="owner", phase="mlvp") == ("mlvp-authenticated",)
    assert decided(api_key_kind="oidc", phase="mlvp") == ("ask-models",)


def test_the_places_and_the_budget_of_the_page_are_those_of_the_code(tmp_path):
    assert str(API_KEYS) in PAGE and str(OWNER_TOKEN) in PAGE
    config.check_budgets({"each": BudgetRule(calls=1, per=("api_key", "day"))}, None, None, where="here")
    help_text = CliRunner().invoke(cli, ["keys", "issue", "--help"]).output
    options = set(re.findall(r"`(--[a-z-]+)", PAGE)) - {"--overlap"}
    assert len(options) > 10 and [option for option in options if option not in help_text] == []
