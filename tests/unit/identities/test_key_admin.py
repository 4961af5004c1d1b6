"""API keys: who may issue and revoke them, what is kept, what is shown, and what ends when."""

from __future__ import annotations

import dataclasses
import json
import random
import secrets
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from issuer import AUDIENCE, ISSUER, Issuer
from sizes import ATTEMPTS

from workbench.audit.reading import Filter, rows_of
from workbench.cli.app import cli
from workbench.cli.output import masked
from workbench.context import SystemClock, instant
from workbench.errors import ConfigError, NotFoundError, PolicyError, RefusedError, UnauthenticatedError
from workbench.identities.api_keys import ApiKey, KeyRights, digest_of, key_id, new_secret
from workbench.identities.grants import Authenticator
from workbench.identities.known_keys import open_key_store
from workbench.identities.owner_token import make_owner_token
from workbench.identity import KeyBudget
from workbench.layout import API_KEYS, AUDIT, AUDIT_KEYS, STATE
from workbench.notebooks.patterns import in_text
from workbench.privacy import PatternDetector
from workbench.testing.fakes import FakeClock
from workbench.workspace.granted import workspace_of
from workbench.workspace.key_admin import KeyAdmin

ROOT = Path(__file__).resolve().parents[3]
PARAMS = (ROOT / "params.yaml").read_text()
APP = KeyRights(principal="job:app", kind="job", tenant="acme", use_cases=("answers",))
NOW = "2026-11-30T09:00:00+00:00"


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clock():
    return FakeClock(NOW)


def command(*arguments):
    return CliRunner().invoke(cli, ["keys", *arguments], catch_exceptions=False)


def rows_in(root):
    return rows_of(root / AUDIT, Filter(), root / AUDIT_KEYS)


def refused(authenticator, secret) -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        authenticator.grant(f"Bearer {secret}")
    return str(caught.value)


# -- what a key grants, and until when ---------------------------------------------------------------


def test_a_key_authenticates_whom_it_names_with_its_rights(root, clock):
    rights = dataclasses.replace(
        APP, groups=("people",), clearance=0, purposes=("support",), models=("smollm2-135m",),
        budget=KeyBudget(usd=2.0, per="month"),
    )  # fmt: skip
    made = KeyAdmin(root, clock=clock).issue(rights, days=30)
    grant = Authenticator(root, clock=clock).grant(f"Bearer {made.secret}")
    who = grant.identity.principal
    assert (grant.kind, grant.api_key, who.name, who.kind) == ("key", made.key.id, "job:app", "job")
    assert (who.assurance, grant.identity.tenant, grant.identity.expires) == (
        "authenticated", "acme", "2026-12-30T09:00:00Z",
    )  # fmt: skip
    ws = workspace_of(grant, "answers", root=root, through=None)
    assert (ws.context.principal.groups, ws.context.principal.clearance) == (("everyone", "people"), 0)
    assert not ws.context.principal.admin and ws.context.api_key == made.key.id
    assert ws.context.grant.budget == rights.budget and ws.context.purpose == "support"
    with pytest.raises(RefusedError):
        workspace_of(grant, "triage", root=root, through=None)


def test_a_key_ends_at_its_instant_and_a_clock_that_is_set_back_lets_in_no_key_of_the_future(root, clock):
    made, ours = KeyAdmin(root, clock=clock).issue(APP, days=1), Authenticator(root, clock=clock)
    clock.advance(86_399)
    assert ours.grant(f"Bearer {made.secret}")
    clock.advance(1)
    refused(ours, made.secret)
    clock.advance(-86_400 - 60)  # clocks of machines may differ by a minute
    assert ours.grant(f"Bearer {made.secret}")
    clock.advance(-1)
    refused(ours, made.secret)


def test_a_revoked_key_stays_revoked_whatever_the_clock_says(root, clock):
    admin, ours = KeyAdmin(root, clock=clock), Authenticator(root, clock=clock)
    made = admin.issue(APP)
    assert ours.grant(f"Bearer {made.secret}")
    assert admin.revoke(made.key.id, reason="leaked") and not admin.revoke(made.key.id)
    for seconds in (0, -30, 3_600):
        clock.advance(seconds)
        refused(ours, made.secret)


def test_a_rotated_key_serves_until_the_overlap_ends(root, clock):
    admin, ours = KeyAdmin(root, clock=clock), Authenticator(root, clock=clock)
    old = admin.issue(APP, days=30)
    new = admin.rotate(old.key.id, overlap_hours=2)
    assert new.key.rights == old.key.rights and new.secret != old.secret
    clock.advance(2 * 3_600 - 1)
    assert (
        ours.grant(f"Bearer {old.secret}").identity.principal
        == ours.grant(f"Bearer {new.secret}").identity.principal
    )
    clock.advance(1)
    refused(ours, old.secret)
    assert ours.grant(f"Bearer {new.secret}").identity.expires == "2026-12-30T09:00:00Z"
    with pytest.raises(NotFoundError, match="not rotated yet"):
        admin.rotate(old.key.id)
    at_once = admin.rotate(new.key.id, overlap_hours=0, days=1)
    refused(ours, new.secret)
    assert ours.grant(f"Bearer {at_once.secret}")


OTHER_PROCESS = """
import sys
from pathlib import Path
from workbench.errors import UnauthenticatedError
from workbench.identities.grants import Authenticator

ours = Authenticator(Path(sys.argv[1]))
for line in sys.stdin:
    try:
        print(ours.grant(line.rstrip("\\n")).api_key, flush=True)
    except UnauthenticatedError:
        print("refused", flush=True)
"""


def test_another_process_sees_each_change_at_its_next_request(root):
    admin = KeyAdmin(root)
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:

        def ask(secret):
            other.stdin.write(f"Bearer {secret}\n")
            other.stdin.flush()
            return other.stdout.readline().strip()

        first = admin.issue(APP)
        assert ask(first.secret) == first.key.id
        for _ in range(2):
            made = admin.issue(APP)
            assert ask(made.secret) == made.key.id
            new = admin.rotate(made.key.id, overlap_hours=0)
            assert (ask(made.secret), ask(new.secret)) == ("refused", new.key.id)
            admin.revoke(new.key.id)
            assert (ask(new.secret), ask(first.secret)) == ("refused", first.key.id)
        other.stdin.close()
        assert other.wait(30) == 0


def test_the_last_use_is_known_to_the_hour(root, clock):
    admin, ours = KeyAdmin(root, clock=clock), Authenticator(root, clock=clock)
    made = admin.issue(APP)
    uses = []
    for seconds in (60, 600, 3_600):
        clock.advance(seconds)
        ours.grant(f"Bearer {made.secret}")
        uses.append(admin.find(made.key.id).used)
    assert uses == ["2026-11-30T09:01:00Z", "2026-11-30T09:01:00Z", "2026-11-30T10:11:00Z"]


# -- nothing tells what is wrong with a key, and nothing lets a wrong one in -------------------------


def test_wrong_unknown_expired_and_revoked_keys_are_refused_alike(root, clock):
    admin, ours = KeyAdmin(root, clock=clock), Authenticator(root, clock=clock)
    made = [admin.issue(APP, days=days) for days in (1, 30, 30)]
    admin.revoke(made[1].key.id)
    clock.advance(86_400)
    end = "0" if made[2].secret[-1] != "0" else "1"
    cases = {
        "expired": made[0].secret, "revoked": made[1].secret, "wrong": made[2].secret[:-1] + end,
        "unknown": new_secret()[1], "malformed": "wbk_x", "owner": "wbo_" + "0" * 64,
    }  # fmt: skip
    assert ours.grant(f"Bearer {made[2].secret}")
    assert len({refused(ours, secret) for secret in cases.values()}) == 1
    took = {name: [] for name in ("expired", "revoked", "wrong", "unknown")}
    for _ in range(300):
        for name, times in took.items():
            began = time.perf_counter_ns()
            refused(ours, cases[name])
            times.append(time.perf_counter_ns() - began)
    typical = [statistics.median(times) for times in took.values()]
    assert max(typical) < 3 * min(typical), "they take about the same time"


def test_of_random_keys_none_is_let_in(root):
    admin, ours, chance = KeyAdmin(root), Authenticator(root), random.Random(7)
    owner, made = make_owner_token(root), [admin.issue(APP) for _ in range(3)]
    for n in range(ATTEMPTS):
        near = chance.choice([*made, owner])
        secret = near if near is owner else near.secret
        at = chance.randrange(4, len(secret))
        if n % 2:  # one sign of a true key is changed
            tried = secret[:at] + chance.choice("0123456789abcdefz_ ") + secret[at + 1 :]
        else:
            of_its_id = "wbk_" + secret[4:17] + secrets.token_hex(32)
            others = "wbo_" + secrets.token_hex(32), new_secret()[1], secrets.token_urlsafe(at), secret[:at]
            tried = chance.choice([of_its_id, *others])
        if tried.strip(" ") not in {owner, *(each.secret for each in made)}:
            refused(ours, tried)


def test_a_secret_has_256_random_bits_and_is_kept_nowhere(root):
    admin = KeyAdmin(root)
    made = [admin.issue(APP), admin.issue(APP)]
    made.append(admin.rotate(made[0].key.id))
    Authenticator(root).grant(f"Bearer {made[2].secret}")
    assert len({each.secret[-64:] for each in made}) == 3 and all(key_id(each.secret) for each in made)
    written = [path for path in (root / STATE).rglob("*") if path.is_file()]
    assert root / API_KEYS in written
    for path in written:
        data = path.read_bytes()
        for each in made:
            assert each.secret[-64:].encode() not in data and bytes.fromhex(each.secret[-64:]) not in data, (
                path
            )
    assert all(each.secret not in repr(each) and each.key.digest not in repr(each) for each in made)
    assert any(made[2].key.digest.encode() in path.read_bytes() for path in written)


# -- commands ----------------------------------------------------------------------------------------


def test_the_secret_is_printed_once_and_no_list_shows_it(root):
    done = command(
        "issue", "--principal", "ann", "--tenant", "acme", "--use-case", "answers", "--usd", "3", "--json"
    )
    issued = json.loads(done.stdout)
    secret = issued.pop("secret")
    assert Authenticator(root).grant(f"Bearer {secret}").identity.principal.name == "ann"
    shown = command("list").stdout + command("list", "--json").stdout + command("show", issued["id"]).stdout
    assert issued["id"] in shown and secret[-64:] not in shown and digest_of(secret) not in shown
    (listed,) = json.loads(command("list", "--json").stdout)
    assert listed["id"] == issued["id"] and listed["used"] is not None and listed["budget"]["usd"] == 3
    plain = command("issue", "--principal", "job:app").stdout
    assert "wbk_" in plain and "This is shown once" in plain


def test_the_secret_goes_to_a_new_file_of_the_owner_alone(root):
    done = command("issue", "--principal", "ann", "--out", "app.key", "--json")
    secret = (root / "app.key").read_text().strip()
    assert (root / "app.key").stat().st_mode & 0o777 == 0o600 and "secret" not in json.loads(done.stdout)
    assert Authenticator(root).grant(f"Bearer {secret}").api_key == json.loads(done.stdout)["id"]
    for refusal in ("app.key", "no/such/folder.key", "."):
        with pytest.raises(ConfigError, match="--out"):
            command("issue", "--principal", "ann", "--out", refusal)
    assert (root / "app.key").read_text().strip() == secret
    assert len(KeyAdmin(root).listed()) == 1


def test_rotate_and_revoke_by_the_command(root):
    first = json.loads(command("issue", "--principal", "ann", "--json").stdout)
    second = json.loads(command("rotate", first["id"], "--overlap", "0", "--json").stdout)
    assert "revoked" in command("revoke", second["id"], "--reason", "a leak").stdout
    assert "before" in command("revoke", second["id"]).stdout
    assert command("list").stdout.strip() == "API keys: none"
    states = {key["id"]: key["state"] for key in json.loads(command("list", "--all", "--json").stdout)}
    assert states == {first["id"]: "expired", second["id"]: "revoked"}


@pytest.mark.parametrize(
    ("arguments", "kind", "word"),
    [
        (["--tenant", "acne"], NotFoundError, "acme"),
        (["--tenant", "../x"], ConfigError, "tenant"),
        (["--use-case", "anwsers"], NotFoundError, "answers"),
        (["--model", "gpt-9"], NotFoundError, "model"),
        (["--memory", "handbok"], NotFoundError, "memory"),
        (["--memory", "handbook@2"], NotFoundError, "memory"),
        (["--use-case", "answers@1"], NotFoundError, "use case"),
        (["--days", "0"], ConfigError, "--days"),
        (["--days", "99999"], ConfigError, "--days"),
        (["--usd", "0"], ConfigError, "--usd"),
        (["--usd", "nan"], ConfigError, "--usd"),
        (["--per", "day"], ConfigError, "no limit"),
        (["--clearance", "99999"], ConfigError, "clearance"),
        (["--principal", "principal:ann"], ConfigError, "principal:"),
        (["--principal", "job:"], ConfigError, "name"),
        (["--group", "a\nb"], ConfigError, "name"),
    ],
)
def test_a_key_that_cannot_be_is_an_error_that_names_what_is_wrong(root, arguments, kind, word):
    with pytest.raises(kind, match=word):
        command("issue", "--principal", "ann", *arguments)
    assert KeyAdmin(root).listed() == []


def test_an_unknown_id_is_not_found(root):
    for verb in ("show", "rotate", "revoke"):
        with pytest.raises(NotFoundError, match="key"):
            command(verb, "nosuchkeyatall")
    with pytest.raises(ConfigError, match="overlap"):
        command("rotate", "nosuchkeyatall", "--overlap", "-1")


# -- who may, and what the audit log has -------------------------------------------------------------


def test_each_act_is_in_the_audit_log_with_its_decision_and_without_a_secret(root):
    admin = KeyAdmin(root)
    made = admin.issue(APP)
    new = admin.rotate(made.key.id)
    admin.revoke(new.key.id, reason="a leak")
    rows = [row for row in rows_in(root) if row["activity"].endswith("_key")]
    assert [(row["activity"], row["resource"]["name"], row["status"]) for row in rows] == [
        ("issue_key", made.key.id, "Begun"), ("issue_key", made.key.id, "Success"),
        ("rotate_key", new.key.id, "Begun"), ("rotate_key", new.key.id, "Success"),
        ("revoke_key", new.key.id, "Begun"), ("revoke_key", new.key.id, "Success"),
    ]  # fmt: skip
    assert rows[3]["facts"]["replaces"] == made.key.id and rows[5]["reason_uid"]
    assert {row["tenant_uid"] for row in rows} == {"acme"}
    assert all(row["decision"]["allowed"] for row in rows[1::2])


def test_only_an_admin_of_each_use_case_of_a_key_may_issue_and_revoke_it(root):
    made = KeyAdmin(root).issue(dataclasses.replace(APP, use_cases=None))
    own = KeyAdmin(root).issue(dataclasses.replace(APP, use_cases=("triage",)))
    (root / "params.yaml").write_text(PARAMS.replace("  answers:\n", "  answers:\n    admins: [nobody]\n", 1))
    admin = KeyAdmin(root)
    for rights in (APP, dataclasses.replace(APP, use_cases=None)):
        with pytest.raises(PolicyError, match="manage_keys"):
            admin.issue(rights)
    assert [key.id for key in admin.listed()] == [own.key.id]
    with pytest.raises(NotFoundError):
        admin.revoke(made.key.id)
    assert admin.revoke(own.key.id)
    assert rows_in(root)[-1]["status"] == "Success"


def test_a_key_is_not_made_when_its_act_cannot_be_logged(root, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workbench.audit.acts.log_act", full)
    with pytest.raises(OSError, match="space"):
        KeyAdmin(root).issue(APP, out=root / "app.key")
    assert open_key_store(root).listed() == [] and not (root / "app.key").exists()


def test_an_admin_of_one_tenant_issues_keys_of_that_tenant(root, monkeypatch):
    issuer = Issuer()
    (root / "jwks.json").write_bytes(issuer.jwks())
    named = PARAMS.replace("  answers:\n", "  answers:\n    admins: [ann]\n", 1)
    (root / "params.yaml").write_text(
        named
        + f"""
identity:
  provider: oidc
  issuer: {ISSUER}
  audience: {AUDIENCE}
  keys: jwks.json
  token_env: ID_TOKEN
  claims: {{tenant: org}}
"""
    )
    monkeypatch.setenv("ID_TOKEN", issuer.token(sub="ann", org="acme"))
    admin = KeyAdmin(root)
    with pytest.raises(RefusedError, match="globex"):
        admin.issue(dataclasses.replace(APP, tenant="globex"))
    made = admin.issue(dataclasses.replace(APP, tenant=""))
    assert (made.key.rights.tenant, made.key.issued_by) == ("acme", "ann")
    assert Authenticator(root).grant(f"Bearer {made.secret}").kind == "key", "beside the issuer's tokens"
    monkeypatch.setenv("ID_TOKEN", issuer.token(sub="ann", org="globex"))
    assert KeyAdmin(root).listed() == []
    with pytest.raises(NotFoundError):
        KeyAdmin(root).revoke(made.key.id)


# -- keys in texts, and what a request costs ---------------------------------------------------------


def test_a_key_in_a_notebook_or_a_text_is_a_secret_and_its_id_is_none(root):
    name, secret = new_secret()
    for text in (secret, "wbo_" + secrets.token_hex(32), f'client = OpenAI(api_key="{secret}")'):
        assert {found.kind for found in PatternDetector().find(text)} == {"secret"}
        assert [what for _, what, _ in in_text([text])], "promotion refuses it"
        assert secret[-64:] not in masked(text) or text.startswith("wbo_")
    for _ in range(500):
        name, _ = new_secret()
        assert masked(f"API key {name} of job:app") == f"API key {name} of job:app"


def test_a_grant_of_an_unchanged_key_takes_less_than_30_us(root):
    admin = KeyAdmin(root)
    made, ours = admin.issue(APP), Authenticator(root)
    header, best = f"Bearer {made.secret}", 1.0
    for _ in range(10):
        began = time.process_time()
        for _ in range(1_000):
            ours.grant(header)
        best = min(best, (time.process_time() - began) / 1_000)
    assert best < 30e-6


def test_a_state_of_a_key_is_one_word():
    key = ApiKey(
        id="a", digest="", rights=APP, issued=instant(SystemClock().now()), expires="2027-01-01T00:00:00Z"
    )
    assert [key.state(at) for at in ("2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z")] == ["active", "expired"]
    assert dataclasses.replace(key, revoked="2026-12-01T00:00:00Z").state("2026-01-01T00:00:00Z") == "revoked"
