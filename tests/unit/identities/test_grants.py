"""What the `Authorization` of a request grants: the owner's token, an issuer's tokens, and nothing else."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from issuer import AUDIENCE, ISSUER, NOW, Issuer

from workbench import config, identity
from workbench.errors import ConfigError, RefusedError, UnauthenticatedError
from workbench.identities.grants import Authenticator, Grant
from workbench.identities.owner_token import make_owner_token, owner_token
from workbench.identity import GrantScope, Principal
from workbench.layout import OWNER_TOKEN
from workbench.ports.identity import Identity
from workbench.testing.fakes import FakeClock
from workbench.workspace.granted import permitted_use_cases, workspace_of

ROOT = Path(__file__).resolve().parents[3]
PARAMS = (ROOT / "params.yaml").read_text()
OIDC = f"""
identity:
  provider: oidc
  issuer: {ISSUER}
  audience: {AUDIENCE}
  keys: jwks.json
  claims: {{groups: groups, clearance: level, tenant: org}}
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


def refused(authenticator, header) -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        authenticator.grant(header)
    assert caught.value.status == 401
    return str(caught.value)


# -- the owner's token -------------------------------------------------------------------------------


def test_who_reads_the_owner_s_token_is_the_user_of_the_process(root):
    token = make_owner_token(root)
    assert token == make_owner_token(root) == owner_token(root), "it is made once"
    path = root / OWNER_TOKEN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    grant = Authenticator(root).grant(f"Bearer {token}")
    assert (grant.kind, grant.identity.principal) == ("owner", identity.from_system())
    assert grant.use_cases is None and grant.identity.principal.assurance == "asserted"
    case = config.use_case(config.load_params(root), "answers")
    assert grant.identity_in("answers", case).principal.admin, "as the user is in the own process"


def test_a_token_that_others_can_read_or_a_link_proves_nothing(root, tmp_path):
    token, path = make_owner_token(root), root / OWNER_TOKEN
    path.chmod(0o640)
    refused(Authenticator(root), f"Bearer {token}")
    with pytest.raises(ConfigError, match="read by others"):
        owner_token(root)
    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused(Authenticator(root), f"Bearer {token}")
    path.unlink()
    path.write_text("wbo_short\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="holds no token"):
        make_owner_token(root)


def test_a_new_token_of_the_owner_ends_the_old_one_at_the_next_request(root):
    old, ours = make_owner_token(root), Authenticator(root)
    ours.grant(f"Bearer {old}")
    (root / OWNER_TOKEN).unlink()
    refused(ours, f"Bearer {old}")
    new = make_owner_token(root)
    refused(ours, f"Bearer {old}")
    assert ours.grant(f"bearer  {new} ").kind == "owner"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer wbo_", "Bearer wbo_" + "0" * 64, "Bearer a.b.c",
     "Bearer wbk_" + "0" * 12 + "_" + "0" * 64, "Bearer \xe9", "Bearer a\nb", "Bearer " + "a" * 30_000,
     b"Bearer a"],
)  # fmt: skip
def test_every_other_header_is_refused_by_one_text(root, header):
    make_owner_token(root)
    text = refused(Authenticator(root), header)
    assert text == refused(Authenticator(root), None) and "workbench keys issue" in text


# -- tokens of an issuer -----------------------------------------------------------------------------


@pytest.fixture
def issuer(root):
    made = Issuer()
    (root / "params.yaml").write_text(PARAMS + OIDC)
    (root / "jwks.json").write_bytes(made.jwks())
    return made


def test_a_token_of_the_issuer_names_its_bearer_until_it_ends(root, issuer):
    clock = FakeClock(NOW.isoformat())
    ours = Authenticator(root, clock=clock)
    header = f"Bearer {issuer.token(now=NOW, sub='ann', groups=['people'], level=1, org='acme')}"
    grant = ours.grant(header)
    who = grant.identity.principal
    assert (grant.kind, who.name, who.assurance) == ("oidc", "ann", "authenticated")
    assert ours.grant(header) is grant, "it is verified once a minute"
    clock.advance(10 * 60 + 59)  # a minute of skew is allowed
    assert ours.grant(header) == grant
    clock.advance(2)
    assert refused(ours, header) == refused(ours, None)


def test_a_token_is_verified_again_when_the_issuer_or_the_clock_changes(root, issuer):
    clock = FakeClock(NOW.isoformat())
    ours = Authenticator(root, clock=clock)
    header = f"Bearer {issuer.token(now=NOW, org='acme')}"
    ours.grant(header)
    (root / "params.yaml").write_text((PARAMS + OIDC).replace(AUDIENCE, "another"))
    refused(ours, header)
    (root / "params.yaml").write_text(PARAMS + OIDC)
    ours.grant(header)
    clock.advance(-120)  # before the token was issued
    refused(ours, header)


def test_where_an_issuer_identifies_callers_the_owner_s_token_is_no_way_around_it(root, issuer):
    with pytest.raises(RefusedError, match="issuer"):
        Authenticator(root).grant(f"Bearer {make_owner_token(root)}")


# -- what a grant permits in a use case --------------------------------------------------------------


def granted(*, tenant="acme", **how) -> Grant:
    who = Principal(name="job:app", kind="job", assurance="authenticated")
    scope = GrantScope(kind="key", api_key="k1", **{k: how.pop(k) for k in ("purposes",) if k in how})
    return Grant(identity=Identity(principal=who, tenant=tenant), scope=scope, **how)


def test_a_workspace_has_what_its_grant_names_and_no_more(root):
    grant = granted(use_cases=frozenset({"answers"}), purposes=frozenset({"support"}))
    ws = workspace_of(grant, "answers", root=root, through=None)
    assert (ws.tenant, ws.context.purpose, ws.context.api_key) == ("acme", "support", "k1")
    assert not ws.context.principal.admin and ws.context.principal.name == "job:app"
    assert permitted_use_cases(grant, root) == ("answers",)
    for name in ("triage", "no-such-use-case"):
        with pytest.raises(RefusedError, match="is not for the use case") as caught:
            workspace_of(grant, name, root=root, through=None)
        assert caught.value.status == 403 and "triage" not in caught.value.message.replace(name, "")
    with pytest.raises(RefusedError, match="globex"):
        workspace_of(grant, "answers", root=root, through=None, tenant="globex")
    with pytest.raises(RefusedError, match="purpose 'explore'"):
        workspace_of(grant, "answers", root=root, through=None, purpose="explore")


@pytest.mark.parametrize("name", ["tenant", "purpose"])
def test_an_empty_name_is_none_that_was_left_out(root, name):
    """Else a client whose variable is not set would act for the first tenant of the use case."""
    for tenant in ("", "acme"):
        with pytest.raises(ConfigError, match=f"the {name} is empty"):
            workspace_of(granted(tenant=tenant), "answers", root=root, through=None, **{name: ""})


def test_an_admin_by_a_key_of_one_use_case_reads_the_records_of_no_other(root):
    """Its principal is an admin of both, and the key is not."""
    text = PARAMS
    for name in ("answers", "triage"):
        text = text.replace(f"  {name}:\n", f"  {name}:\n    admins: ['job:app']\n", 1)
    (root / "params.yaml").write_text(text)

    def chosen(use_cases):
        grant = granted(tenant="", admin=True, use_cases=use_cases)
        through = SimpleNamespace(home=root, verbs=None)
        return workspace_of(grant, "answers", root=root, through=through)._chosen()

    tenants = config.load_params(root).use_cases["answers"].tenants
    assert chosen(frozenset({"answers"})).tenants == {("answers", tenant) for tenant in tenants}
    assert chosen(None).tenants is None and chosen(None).hidden == frozenset()


def test_a_grant_of_another_tenant_reaches_no_use_case(root):
    grant = granted(tenant="initech")
    assert permitted_use_cases(grant, root) == ()
    with pytest.raises(RefusedError, match="is not for the use case"):
        workspace_of(grant, "answers", root=root, through=None)


def test_of_several_purposes_the_request_names_one(root):
    grant = granted(purposes=frozenset({"support", "audit"}))
    with pytest.raises(ConfigError, match="audit, support"):
        workspace_of(grant, "answers", root=root, through=None)
    ws = workspace_of(grant, "answers", root=root, through=None, purpose="audit")
    assert ws.context.purpose == "audit"


def test_only_a_grant_for_admins_makes_an_admin(root):
    (root / "params.yaml").write_text(
        PARAMS.replace("  answers:\n", "  answers:\n    admins: ['job:app']\n", 1)
    )
    case = config.use_case(config.load_params(root), "answers")
    assert not granted().identity_in("answers", case).principal.admin
    assert granted(admin=True).identity_in("answers", case).principal.admin
    other = dataclasses.replace(granted(admin=True), identity=Identity(principal=Principal(name="eve")))
    assert not other.identity_in("answers", case).principal.admin
