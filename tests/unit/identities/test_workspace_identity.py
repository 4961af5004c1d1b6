"""Whom a workspace acts for: only an identity provider gives rights, and code may only take fewer."""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
from pathlib import Path

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from issuer import AUDIENCE, ISSUER, Issuer

import workbench as wb
from workbench import config, files
from workbench.cli import app
from workbench.config import Execution
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.identities.providers import principal_of_command
from workbench.identity import Principal, beyond
from workbench.layout import CALLS
from workbench.models import ModelCard
from workbench.records.calls import read_calls
from workbench.records.tape import Tape
from workbench.testing.fakes import FakeClock, FakeModel
from workbench.testing.principals import acting_as
from workbench.workspace.boundary import Boundary, StatePaths
from workbench.workspace.caller_identity import tenant_of_command
from workbench.workspace.connection import connect_pipeline
from workbench.workspace.history import chosen_of_process

ROOT = Path(__file__).resolve().parents[3]
PARAMS = (ROOT / "params.yaml").read_text()
MODEL = "smollm2-135m"
ASSURED = ("    clearance: 2\n", "    clearance: 2\n    assurance: authenticated\n")
OIDC = f"""
identity:
  provider: oidc
  issuer: {ISSUER}
  audience: {AUDIENCE}
  keys: jwks.json
  token_env: ID_TOKEN
  claims: {{groups: groups, clearance: level, tenant: org}}
"""
ANN = {"groups": ["people"], "level": 1, "org": "acme"}


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def root(tmp_path, issuer, monkeypatch):
    """A repository whose callers are identified by tokens, and `ann` is an admin of its use case."""
    text = PARAMS.replace(
        "  answers:\n", "  answers:\n    admins: [ann, 'job:answers']\n    clearance: 2\n", 1
    )
    (tmp_path / "params.yaml").write_text(text + OIDC)
    (tmp_path / "jwks.json").write_bytes(issuer.jwks())
    monkeypatch.delenv("ID_TOKEN", raising=False)
    return tmp_path


def boundary(home):
    card = ModelCard.unsaved("m")
    made = Boundary(ROOT, mode="live", tape=Tape(home / "t"), cards=[card], places=StatePaths(home=home))
    made._models["m"] = FakeModel()
    return made


def connected(root, **how):
    return wb.connect("answers", root=root, through=boundary(root), **how)


def rights(ws) -> tuple:
    who = ws.context.principal
    return who.name, who.groups, who.clearance, who.admin, who.assurance


# -- tokens ----------------------------------------------------------------------------------------


def test_a_token_gives_its_name_groups_clearance_and_tenant(root, issuer, monkeypatch):
    token = issuer.token(sub="bob", **ANN | {"org": "globex", "level": 9})
    ws = connected(root, token=token)
    assert rights(ws) == ("bob", ("everyone", "people"), 2, False, "authenticated")
    assert ws.tenant == "globex", "the token's, and not the first of the use case"
    monkeypatch.setenv("ID_TOKEN", issuer.token(sub="ann", **ANN))
    assert rights(connected(root)) == ("ann", ("everyone", "people"), 1, True, "authenticated")


def test_without_a_token_nobody_is_let_in(root, issuer):
    with pytest.raises(RefusedError, match="ID_TOKEN holds none") as caught:
        connected(root)
    assert "export ID_TOKEN" in caught.value.hint
    with pytest.raises(RefusedError, match="signature"):
        connected(root, token=Issuer(issuer.kid).token(sub="ann", **ANN))


def test_a_token_must_state_the_tenant_where_the_claim_is_mapped(root, issuer):
    with pytest.raises(RefusedError, match="states no tenant"):
        connected(root, token=issuer.token(sub="ann", **ANN | {"org": None}))
    with pytest.raises(NotFoundError, match="no tenant 'initech'"):
        connected(root, token=issuer.token(sub="ann", **ANN | {"org": "initech"}))


def test_no_other_tenant_than_the_token_s(root, issuer):
    token = issuer.token(sub="ann", **ANN)
    with pytest.raises(RefusedError, match=r"acme.*globex"):
        connected(root, token=token, tenant="globex")
    ws = connected(root, token=token, tenant="acme")
    with pytest.raises(RefusedError, match=r"acme.*globex"):
        ws.bind(tenant="globex")
    assert ws.bind(tenant="acme").tenant == "acme"
    with pytest.raises(RefusedError, match=r"acme.*globex"):
        ws.bind(tenant="globex", token=token)


def test_a_service_binds_the_token_of_each_user_and_each_call_names_it(root, issuer):
    ws = connected(root, token=issuer.token(sub="service", **ANN))
    for name, tenant in (("bob", "globex"), ("eve", "acme")):
        hers = ws.bind(token=issuer.token(sub=name, **ANN | {"org": tenant}))
        assert (hers.context.principal.name, hers.tenant) == (name, tenant)
        hers.model("m").chat("hello")
    admin = ws.bind(token=issuer.token(sub="ann", **ANN))
    seen = admin.calls().select("principal", "tenant").rows()
    assert seen == [("eve", "acme")], "an admin whose token names a tenant sees that tenant's alone"
    with pytest.raises(RefusedError, match="globex"):
        admin.calls(tenant="globex")
    everywhere = acting_as(admin, admin.context.principal)
    assert everywhere.calls()["principal"].to_list() == ["bob", "eve"]
    with pytest.raises(RefusedError, match="another audience"):
        ws.bind(token=issuer.token(sub="bob", aud="billing", **ANN))


def test_a_token_that_ended_refuses_calls_until_a_new_one_is_bound(root, issuer):
    ws = connected(root, token=issuer.token(sub="bob", **ANN))
    clock = FakeClock(dt.datetime.now(dt.UTC).isoformat())
    ws = dataclasses.replace(ws, context=dataclasses.replace(ws.context, clock=clock))
    clock.advance(600 + 50)
    assert ws.model("m").chat("hello").text
    clock.advance(20)
    with pytest.raises(RefusedError, match=r"token of user:bob .* expired") as caught:
        ws.model("m").chat("hello")
    assert "token=" in caught.value.hint
    with pytest.raises(openai.PermissionDeniedError, match="expired"):
        ws.openai().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    with pytest.raises(RefusedError, match="expired"):
        ws.bind(purpose="again").model("m").chat("hello")
    reads = {
        "calls": ws.calls, "costs": ws.costs, "outcomes": ws.outcomes,
        "sessions": ws.sessions, "released": lambda: ws.released("x"),
        "content": lambda: ws.content("20261130-0123456789abcdef", reason="complaint"),
        "outcome": lambda: ws.outcome(name="resolved", session="s"),
    }  # fmt: skip
    for name, read in reads.items():
        with pytest.raises((RefusedError, NotFoundError), match=r"expired|no held answer") as caught:
            read()
        assert isinstance(caught.value, RefusedError) or name == "released"


def test_a_name_without_a_token_is_no_admin_by_that_name(root, issuer):
    bare = issuer.token(sub="bob", **ANN)
    text = (root / "params.yaml").read_text().replace("    admins: [ann, 'job:answers']\n", "")
    (root / "params.yaml").write_text(text)
    assert not connected(root, token=bare).context.principal.admin, "with tokens, admins are named"


def test_rights_that_a_token_does_not_map_are_the_use_case_s(root, issuer):
    text = (
        (root / "params.yaml")
        .read_text()
        .replace("  claims: {groups: groups, clearance: level, tenant: org}\n", "")
    )
    (root / "params.yaml").write_text(text)
    who = connected(root, token=issuer.token(sub="bob", **ANN)).context.principal
    assert who.groups == ("everyone", "people", "personnel", "finance", "operations") and who.clearance == 2


def test_a_token_without_an_issuer_is_refused():
    with pytest.raises(RefusedError, match="no issuer"):
        wb.connect("answers", root=ROOT, mode="replay", token=Issuer().token())


def test_the_command_line_shows_the_calls_that_the_token_s_bearer_may_see(root, issuer, monkeypatch):
    ws = connected(root, token=issuer.token(sub="service", **ANN))
    for tenant in ("acme", "globex"):
        ws.bind(token=issuer.token(sub="bob", **ANN | {"org": tenant})).model("m").chat("hello")
    with pytest.raises(RefusedError, match="ID_TOKEN"):
        chosen_of_process(root)
    for name, seen in (("ann", ["acme"]), ("bob", [])):
        monkeypatch.setenv("ID_TOKEN", issuer.token(sub=name, **ANN))
        assert read_calls(root / CALLS, chosen_of_process(root))["tenant"].to_list() == seen


def test_a_command_that_leaves_a_name_leaves_the_token_s(root, issuer, monkeypatch):
    with pytest.raises(RefusedError, match="ID_TOKEN"):
        principal_of_command(root)
    monkeypatch.setenv("ID_TOKEN", issuer.token(sub="ann", **ANN))
    assert str(principal_of_command(root)) == "user:ann (authenticated)"
    assert principal_of_command(ROOT).assurance == "asserted"


def test_a_command_acts_for_no_other_tenant_than_the_token_s(root, issuer, monkeypatch, capsys):
    monkeypatch.setenv("ID_TOKEN", issuer.token(sub="ann", **ANN))
    monkeypatch.chdir(root)
    assert tenant_of_command(root, None) == "acme" == tenant_of_command(root, "acme")
    assert tenant_of_command(ROOT, None) is None and tenant_of_command(ROOT, "globex") == "globex"
    for words in (
        "audit show --tenant globex", "content list --tenant globex",

        "content erase --tenant globex --subject s",
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["workbench", *words.split()])
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert ended.value.code == 3 and "is of tenant 'acme' by its token" in capsys.readouterr().err, words


# -- the pipeline and jobs -------------------------------------------------------------------------


def run_as(monkeypatch, **facts):
    running = Execution(notebook="n", use_case="answers", **facts)
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)


def test_a_stage_is_the_user_of_the_process_whatever_token_it_has(root, issuer, monkeypatch):
    monkeypatch.setenv("ID_TOKEN", issuer.token(sub="ann", **ANN))
    run_as(monkeypatch, tape="tape.jsonl")
    who = connected(root).context.principal
    assert who.assurance == "asserted" and who.name != "ann" and not who.admin
    built = connect_pipeline("answers", root=root, purpose="remember", through=boundary(root), admin=True)
    assert built.context.principal.admin and built.context.principal.assurance == "asserted"


def test_a_job_stays_a_job_and_is_authenticated_by_who_starts_it(root, issuer, monkeypatch):
    run_as(monkeypatch, job="answers", run="r1", live_memory=True, tape="tape.jsonl")
    assert rights(connected(root))[0::4] == ("job:answers", "asserted")
    text = (root / "params.yaml").read_text().replace(*ASSURED)
    (root / "params.yaml").write_text(text)
    with pytest.raises(RefusedError, match="ID_TOKEN holds none"):
        connected(root)
    monkeypatch.setenv("ID_TOKEN", issuer.token(sub="ann", **ANN))
    ws = connected(root)
    assert rights(ws)[0::4] == ("job:answers", "authenticated") and ws.context.principal.kind == "job"
    assert ws.identity.expires is None, "a run ends by its own limit"
    with pytest.raises(RefusedError, match="job 'answers'"):
        connected(root, token=issuer.token(sub="ann", **ANN))
    with pytest.raises(RefusedError, match="job 'answers'"):
        ws.bind(token=issuer.token(sub="ann", **ANN))
    with pytest.raises(RefusedError, match="name ann"):
        ws.bind(principal=Principal(name="ann"))


def test_a_sample_of_a_version_reproduces_without_a_token(root, monkeypatch):
    text = (root / "params.yaml").read_text().replace(*ASSURED)
    (root / "params.yaml").write_text(text)
    run_as(monkeypatch, job="answers", run="r1", tape="tape.jsonl", mode="replay")
    assert rights(connected(root))[0::4] == ("job:answers", "asserted")


def test_a_job_is_verified_by_today_s_keys_of_its_home(root, issuer, monkeypatch, tmp_path_factory):
    version = tmp_path_factory.mktemp("version")
    text = (root / "params.yaml").read_text().replace(*ASSURED)
    (version / "params.yaml").write_text(text)
    (version / "jwks.json").write_bytes(Issuer("old").jwks())
    run_as(monkeypatch, job="answers", run="r1", live_memory=True, tape="t", home=str(root))
    monkeypatch.setenv("ID_TOKEN", issuer.token(sub="ann", **ANN))
    ws = wb.connect("answers", root=version, through=boundary(root))
    assert ws.context.principal.assurance == "authenticated"


# -- narrowing -------------------------------------------------------------------------------------

LIMITED = Principal(name="ada", groups=("everyone", "people"), clearance=1)


@pytest.fixture
def limited(tmp_path):
    """A workspace of an asserted principal that is no admin."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    return acting_as(connected(tmp_path), LIMITED)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"groups": ("everyone", "finance")}, "groups finance"),
        ({"groups": ("principal:bob",)}, "groups principal:bob"),
        ({"clearance": 2}, "clearance 2"),
        ({"admin": True}, "admin"),
        ({"assurance": "authenticated"}, "assurance authenticated"),
        ({"name": "bob"}, "name bob"),
        ({"kind": "job"}, "name ada"),
        ({"clearance": True}, "not plain"),
        ({"groups": ["everyone"]}, "not plain"),
        ({"admin": 0}, "not plain"),
    ],
)
def test_a_principal_with_more_rights_is_refused_with_what_was_raised(limited, change, said):
    more = dataclasses.replace(LIMITED, **change)
    with pytest.raises(RefusedError, match=said) as caught:
        limited.bind(principal=more)
    assert "token" in caught.value.hint


def test_connect_takes_no_more_rights_than_the_process_has(tmp_path):
    (tmp_path / "params.yaml").write_text(
        PARAMS.replace("  answers:\n", "  answers:\n    admins: [nobody]\n", 1)
    )
    own = connected(tmp_path).context.principal
    for change in ({"admin": True}, {"name": "nobody"}, {"clearance": 3}, {"assurance": "authenticated"}):
        with pytest.raises(RefusedError, match="more rights"):
            connected(tmp_path, principal=dataclasses.replace(own, **change))
    fewer = dataclasses.replace(own, groups=("everyone",))
    assert connected(tmp_path, principal=fewer).context.principal == fewer


def test_fewer_rights_cannot_be_taken_back(limited):
    fewer = limited.bind(principal=dataclasses.replace(LIMITED, groups=(), clearance=0))
    for more in (LIMITED, dataclasses.replace(LIMITED, groups=())):
        with pytest.raises(RefusedError, match="more rights"):
            fewer.bind(principal=more)
        with pytest.raises(RefusedError, match="more rights"):
            fewer.bind(tenant="acme", principal=more)
    assert fewer.bind(tenant="globex").context.principal.clearance == 0


def test_an_admin_takes_another_name_which_is_only_asserted(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    ws = connected(tmp_path)
    assert ws.context.principal.admin, "params.yaml names no admins"
    guest = ws.bind(principal=Principal(name="guest", groups=("people",)))
    assert rights(guest) == ("guest", ("people",), 0, False, "asserted")
    admin = acting_as(ws, dataclasses.replace(ws.context.principal, assurance="authenticated"))
    with pytest.raises(RefusedError, match="assurance authenticated"):
        admin.bind(principal=dataclasses.replace(admin.context.principal, name="guest"))
    with pytest.raises(RefusedError, match="name job:answers"):
        admin.bind(principal=Principal(name="job:answers", kind="job"))


class Everything(str):
    """A text that equals every text."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        return True


class Raised(Principal):
    """A principal that equals every principal."""

    __hash__ = Principal.__hash__

    def __eq__(self, other):
        return True


def test_a_class_of_its_own_answers_no_comparison(limited):
    with pytest.raises(RefusedError, match="not plain"):
        limited.bind(principal=dataclasses.replace(LIMITED, groups=(Everything("board"),)))
    with pytest.raises(RefusedError, match="not plain"):
        limited.bind(principal=dataclasses.replace(LIMITED, name=Everything("bob")))
    with pytest.raises(RefusedError, match="not plain"):
        limited.bind(principal=Raised(name="ada", admin=True))


def test_a_context_is_not_replaced_around_the_identity(limited):
    for change in ({"principal": dataclasses.replace(LIMITED, admin=True)},):
        with pytest.raises(RefusedError, match="identity"):
            dataclasses.replace(limited, context=dataclasses.replace(limited.context, **change))
    with pytest.raises(dataclasses.FrozenInstanceError):
        limited.context.principal = Principal(name="bob")


def test_a_name_whose_class_equals_every_name_is_no_tenant_and_no_principal(limited, root, issuer):
    ws = connected(root, token=issuer.token(sub="bob", **ANN))
    for tenant in (Everything("globex"), Everything("unknown")):
        with pytest.raises(RefusedError, match="asks for tenant"):
            ws.bind(tenant=tenant)
        with pytest.raises(RefusedError, match="asks for tenant"):
            connected(root, token=issuer.token(sub="bob", **ANN), tenant=tenant)
        with pytest.raises(RefusedError, match="not those of its identity"):
            dataclasses.replace(ws, context=dataclasses.replace(ws.context, tenant=tenant))
    assert ws.bind(purpose=Everything("other")).context.purpose != "explore"
    assert (
        type(connected(root, token=issuer.token(sub="bob", **ANN), purpose=Everything("x")).context.purpose)
        is str
    )
    raised = Raised(name="ada", admin=True)
    with pytest.raises(RefusedError, match="not those of its identity"):
        dataclasses.replace(limited, context=dataclasses.replace(limited.context, principal=raised))


def test_a_verb_of_the_process_is_no_way_to_its_rights(limited, root, issuer, monkeypatch):
    """A label moves by the rights of the process: nobody who acts for another borrows them."""
    for ws in (
        limited,
        limited.bind(principal=LIMITED),
        connected(root, token=issuer.token(sub="bob", **ANN)),
    ):
        for verb in (ws.promote, ws.rollback):
            with pytest.raises(RefusedError, match="prompt/answer here: this process acts for"):
                verb("prompt/answer")
    monkeypatch.setenv("ID_TOKEN", issuer.token(sub="bob", **ANN))
    ws = connected(root)
    with pytest.raises(NotFoundError):  # the folder has no prompts
        ws.promote("prompt/answer", to="candidate")
    with pytest.raises(RefusedError, match="this process acts for"):
        ws.bind(principal=dataclasses.replace(ws.context.principal, groups=())).promote("prompt/answer")


NAMES = st.sampled_from(["ada", "bob"])
PRINCIPALS = st.builds(
    Principal,
    name=NAMES,
    kind=st.sampled_from(["user", "job"]),
    groups=st.lists(st.sampled_from(["everyone", "people", "board", "principal:bob"]), max_size=3).map(tuple),
    clearance=st.integers(0, 3),
    assurance=st.sampled_from(["asserted", "authenticated"]),
    admin=st.booleans(),
)


@given(own=PRINCIPALS, wanted=PRINCIPALS)
def test_what_may_be_bound_never_has_a_right_that_its_workspace_lacks(own, wanted):
    if beyond(wanted, own):
        return
    assert set(wanted.groups) <= set(own.groups) and wanted.clearance <= own.clearance
    assert not wanted.admin or own.admin
    same = (wanted.name, wanted.kind) == (own.name, own.kind)
    assert same or (own.admin and wanted.assurance == "asserted")
    assert wanted.trust <= own.trust
    assert own.admin or set(wanted.grants) <= set(own.grants)


# -- params.yaml -----------------------------------------------------------------------------------

SOUND = {
    "provider": "oidc",
    "issuer": ISSUER,
    "audience": AUDIENCE,
    "keys": "jwks.json",
    "token_env": "ID_TOKEN",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"provider": "saml"}, "provider"),
        ({"issuer": None}, r"identity\.issuer is missing"),
        ({"audience": ""}, r"identity\.audience is missing"),
        ({"keys": None}, r"identity\.keys is missing"),
        ({"keys": "http://login.example.com/jwks"}, "only fetched over https"),
        ({"keys": "file:///etc/passwd"}, "only fetched over https"),
        ({"keys": "https://ann:secret@login.example.com/jwks"}, "without a user"),
        ({"keys": "https:///jwks"}, "https://HOST"),
        ({"keys": "../jwks.json"}, "inside the repository"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": []}, "algorithms is empty"),
        ({"token_file": "token"}, "both token_env and token_file"),
        ({"token_env": "eyJhbGciOi.x.y"}, "NAME of an environment variable"),
        ({"require": {"repository": ""}}, "without a value"),
        ({"provider": "ci"}, r"identity\.require is missing"),
        ({"provider": "ci", "token_env": None, "require": {"repository": "a/b"}}, "names no token"),
        ({"provider": "system"}, "is for tokens"),
        ({"claims": {"role": "x"}}, "role"),
    ],
)
def test_an_identity_that_cannot_work_is_an_error_with_the_key(tmp_path, change, said):
    stated = {key: value for key, value in {**SOUND, **change}.items() if value is not None}
    (tmp_path / "params.yaml").write_text(PARAMS + files.yaml_text({"identity": stated}))
    with pytest.raises(ConfigError, match=said) as caught:
        config.load_params(tmp_path)
    assert "secret@" not in str(caught.value) or "ann" not in str(caught.value)


def test_an_assurance_that_no_provider_gives_is_an_error(tmp_path):
    text = PARAMS.replace("  answers:\n", "  answers:\n    assurance: authenticated\n", 1)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"use_cases\.answers\.assurance") as caught:
        config.load_params(tmp_path)
    assert "identity" in caught.value.hint
    (tmp_path / "params.yaml").write_text(text + OIDC)
    assert config.load_params(tmp_path).use_cases["answers"].assurance == "authenticated"
