"""What a token must prove before it names anybody."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import traceback
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from issuer import AUDIENCE, ISSUER, NOW, Issuer, forged, rsa_key, settings

from workbench.config import TokenClaims
from workbench.errors import RefusedError
from workbench.identities.ci import CIProvider
from workbench.identities.keys import KeySet
from workbench.identities.oidc import OIDCProvider
from workbench.identities.system import SystemProvider
from workbench.ports.identity import IdentityProvider
from workbench.testing.fakes import FakeClock

CLAIMS = TokenClaims(name="email", groups="groups", clearance="level", tenant="org")
PERSON = {"email": "ann@acme.example", "groups": ["people", "finance"], "level": 2, "org": "acme"}


@pytest.fixture
def issuer():
    return Issuer()


def provider(issuer, tmp_path, *, kind=OIDCProvider, clock=None, **changes):
    stated = settings(**changes)
    keys = KeySet(issuer.jwks(), where="jwks")
    return kind(stated, tmp_path, clock=clock or FakeClock(NOW.isoformat()), keys=keys)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "EdDSA"])
def test_a_valid_token_names_a_principal_with_what_its_claims_state(tmp_path, algorithm):
    issuer = Issuer(algorithm=algorithm)
    ours = provider(issuer, tmp_path, claims=CLAIMS, algorithms=(algorithm,))
    found = ours.identify(issuer.token(now=NOW, **PERSON))
    who = found.principal
    assert (who.name, who.kind, who.assurance, who.admin) == (PERSON["email"], "user", "authenticated", False)
    assert (who.groups, who.clearance, found.tenant) == (("everyone", "people", "finance"), 2, "acme")
    assert found.expires == "2026-11-30T09:10:00Z" and found.stated == {"groups", "clearance"}
    assert isinstance(ours, IdentityProvider) and isinstance(SystemProvider(), IdentityProvider)


def test_claims_that_are_not_mapped_state_nothing(issuer, tmp_path):
    found = provider(issuer, tmp_path).identify(issuer.token(now=NOW, **PERSON))
    assert (found.principal.name, found.stated, found.tenant) == ("ann@acme.example", frozenset(), "")
    assert found.principal.groups == ("everyone",) and found.principal.clearance == 0


def test_groups_and_clearance_that_a_token_lacks_are_none(issuer, tmp_path):
    token = issuer.token(now=NOW, **PERSON | {"groups": None, "level": None})
    who = provider(issuer, tmp_path, claims=CLAIMS).identify(token).principal
    assert (who.groups, who.clearance) == (("everyone",), 0)


def public_pem(issuer) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return issuer.key.public_key().public_bytes(serialization.Encoding.PEM, form)


def signed_by_secret(issuer, secret: bytes) -> str:
    """A token signed by HS256, with the public key as the secret."""
    unsigned = forged({"alg": "HS256", "kid": issuer.kid}, {"iss": ISSUER, "aud": AUDIENCE}).rpartition(".")[
        0
    ]
    made = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


def changed(token: str) -> str:
    """The token with another name, under the signature that it had."""
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    body = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "boss"}).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


SECOND = int(NOW.timestamp())
BAD = {
    "expired": (lambda i: i.token(now=NOW, exp=SECOND - 61), "expired at 2026-11-30T08:58:59Z"),
    "without an end": (lambda i: i.token(now=NOW, exp=None), "lacks the claim 'exp'"),
    "an end that is no time": (lambda i: forged_by(i, exp=True), "'exp' that is no time"),
    "an endless end": (lambda i: i.token(now=NOW, exp=10**18), "'exp' that is no time"),
    "an end of 400 digits": (lambda i: forged_by(i, exp=10**400), "'exp' that is no time"),
    "a beginning of 400 digits": (lambda i: forged_by(i, exp=SECOND, nbf=10**400), "'nbf' that is no time"),
    "an end that is no number": (lambda i: forged_by(i, exp=float("nan")), "'exp' that is no time"),
    "not valid yet": (lambda i: i.token(now=NOW, nbf=SECOND + 61), "valid only from"),
    "of the future": (lambda i: i.token(now=NOW, iat=SECOND + 61), "issued only from"),
    "another audience": (lambda i: i.token(now=NOW, aud="billing"), "another audience"),
    "no audience": (lambda i: i.token(now=NOW, aud=None), "lacks the claim 'aud'"),
    "another issuer": (lambda i: i.token(now=NOW, iss=f"{ISSUER}.evil.example"), "another issuer"),
    "no issuer": (lambda i: i.token(now=NOW, iss=None), "lacks the claim 'iss'"),
    "unsigned": (lambda i: forged({"alg": "none"}, {"iss": ISSUER, "aud": AUDIENCE, "sub": "x"}), "'none'"),
    "signature cut off": (lambda i: i.token(now=NOW).rpartition(".")[0] + ".", "signature"),
    "the public key as a secret": (lambda i: signed_by_secret(i, public_pem(i)), "'HS256'"),
    "the JWKS as a secret": (lambda i: signed_by_secret(i, i.jwks()), "'HS256'"),
    "changed after it was signed": (lambda i: changed(i.token(now=NOW)), "signature"),
    "the key of another": (lambda i: Issuer(i.kid).token(now=NOW), "signature"),
    "an unknown key": (lambda i: Issuer("k9").token(now=NOW), "does not hold"),
    "a key of its own in the header": (
        lambda i: Issuer("own").token(header={"jwk": i.jwk()}),
        "does not hold",
    ),
    "a critical extension": (lambda i: i.token(now=NOW, header={"crit": ["x"]}), "no signed"),
    "a payload beside it": (
        lambda i: i.token(now=NOW, header={"crit": ["b64"], "b64": False}),
        "asks for more",
    ),
    "no name": (lambda i: i.token(now=NOW, sub=""), "no name"),
    "a name that is a job's": (lambda i: i.token(now=NOW, sub="job:answers"), "gives itself"),
    "a name of another line": (lambda i: i.token(now=NOW, sub="ann\nadmin"), "no name"),
    "a name of a group entry": (lambda i: i.token(now=NOW, sub="principal:bob"), "gives itself"),
    "no token": (lambda i: "", "no signed JSON Web Token"),
    "text": (lambda i: "hello.there.you", "no signed JSON Web Token"),
    "other letters": (lambda i: "é" * 10, "ASCII"),
    "too long": (lambda i: "a" * 20_000, "16384"),
    "no text": (lambda i: b"abc", "ASCII"),
}


def forged_by(issuer, **claims) -> str:
    """A token with claims that the library refuses to write, signed by the issuer's key."""
    stated = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", **claims}
    return jwt.api_jws.encode(json.dumps(stated).encode(), issuer.key, "ES256", headers={"kid": issuer.kid})


@pytest.mark.parametrize("name", BAD)
def test_a_token_that_proves_nothing_is_refused_and_never_repeated(issuer, tmp_path, name):
    make, said = BAD[name]
    token = make(issuer)
    with pytest.raises(RefusedError) as caught:
        provider(issuer, tmp_path).identify(token)
    assert said in caught.value.message and caught.value.hint and caught.value.reason == "identity"
    shown = "".join(traceback.format_exception(caught.value, chain=True))
    assert len(token) < 20 or str(token) not in shown
    assert not caught.value.retryable


SIGNER = Issuer()
TOKEN = SIGNER.token(now=NOW, **PERSON)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


@given(
    st.integers(0, len(TOKEN) - 1), st.sampled_from(LETTERS), st.sampled_from(["change", "drop", "double"])
)
def test_a_token_with_another_letter_names_nobody_else(place, letter, how):
    middle = {"change": letter, "drop": "", "double": TOKEN[place] + letter}[how]
    ours = provider(SIGNER, Path(), claims=CLAIMS)
    try:
        found = ours.identify(TOKEN[:place] + middle + TOKEN[place + 1 :])
    except RefusedError:
        return
    # The last letter of Base64 has bits that stand for nothing.
    assert (found == ours.identify(TOKEN) and place == len(TOKEN) - 1) or middle == TOKEN[place]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"org": None}, "states no tenant"),
        ({"org": ""}, "no name"),
        ({"org": ["acme", "globex"]}, "no name"),
        ({"level": "2"}, "no clearance"),
        ({"level": True}, "no clearance"),
        ({"level": 10}, "no clearance"),
        ({"groups": {"a": 1}}, "no list of groups"),
        ({"groups": ["people", 7]}, "no name"),
        ({"groups": ["principal:bob"]}, "gives itself"),
    ],
)
def test_a_claim_of_another_form_is_refused_instead_of_read_as_fewer_rights(issuer, tmp_path, change, said):
    with pytest.raises(RefusedError, match=said):
        provider(issuer, tmp_path, claims=CLAIMS).identify(issuer.token(now=NOW, **PERSON | change))


def test_clocks_may_differ_by_a_minute_and_no_more(issuer, tmp_path):
    for claims in ({"exp": SECOND - 59}, {"nbf": SECOND + 60}, {"iat": SECOND + 60}):
        assert provider(issuer, tmp_path).identify(issuer.token(now=NOW, **claims)).principal.name
    clock = FakeClock(NOW.isoformat())
    ours, token = provider(issuer, tmp_path, clock=clock), issuer.token(now=NOW)
    clock.advance(659)
    assert ours.identify(token).principal.name
    clock.advance(1)
    with pytest.raises(RefusedError, match="expired"):
        ours.identify(token)


def test_a_key_serves_only_the_algorithm_that_it_is_for(tmp_path):
    issuer = Issuer(algorithm="RS256")
    token = issuer.token(now=NOW)
    keys = KeySet(json.dumps({"keys": [issuer.jwk(alg="PS256")]}).encode(), where="jwks")
    ours = OIDCProvider(settings(), tmp_path, clock=FakeClock(NOW.isoformat()), keys=keys)
    with pytest.raises(RefusedError, match="does not hold"):
        ours.identify(token)
    with pytest.raises(RefusedError, match=r"RS256.*permits ES256") as caught:
        provider(issuer, tmp_path, algorithms=("ES256",)).identify(token)
    assert "identity.algorithms" in caught.value.hint
    with pytest.raises(RefusedError, match="'HS256'") as caught:  # which no params.yaml can permit
        provider(issuer, tmp_path).identify(signed_by_secret(issuer, b"secret"))
    assert "identity.algorithms" not in caught.value.hint
    assert (
        KeySet(json.dumps({"keys": [issuer.jwk(use="enc")]}).encode(), where="j").find("k1", "RS256") is None
    )


def test_short_keys_shared_secrets_and_other_curves_verify_nothing(issuer):
    weak = Issuer(algorithm="RS256")
    weak.key = rsa_key(1024)
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "ES256"}
    other = json.loads(
        jwt.get_algorithm_by_name("ES384").to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key())
    )
    entries = [
        weak.jwk(kid="weak"),
        secret,
        {**other, "kid": "curve"},
        {"kty": "EC", "crv": "P-256", "kid": "bad"},
    ]
    keys = KeySet(issuer.jwks(*entries), where="jwks")
    assert [keys.find(kid, "ES256") for kid in ("s", "curve", "bad", "weak")] == [None] * 4
    assert keys.find("weak", "RS256") is None and keys.find("k1", "ES256") is not None


def test_a_token_without_a_key_id_is_verified_by_the_only_key_that_fits(issuer, tmp_path):
    token = issuer.token(now=NOW, header={"kid": None})
    assert provider(issuer, tmp_path).identify(token).principal.name == "ann@acme.example"
    two = KeySet(issuer.jwks(Issuer("k2").jwk()), where="jwks")
    with pytest.raises(RefusedError, match="does not hold"):
        OIDCProvider(settings(), tmp_path, clock=FakeClock(NOW.isoformat()), keys=two).identify(token)


def test_a_pipeline_of_a_ci_is_a_job_of_the_required_repository(issuer, tmp_path):
    required = {"repository": "acme/answers", "ref": ("refs/heads/main", "refs/heads/release")}
    ours = provider(issuer, tmp_path, kind=CIProvider, require=required)
    subject = "repo:acme/answers:ref:refs/heads/main"
    claims = {"sub": subject, "repository": "acme/answers", "ref": "refs/heads/main"}
    who = ours.identify(issuer.token(now=NOW, **claims)).principal
    assert (who.name, who.kind, who.assurance) == (f"ci:{subject}", "job", "authenticated")
    for change in (
        {"repository": "evil/answers"},
        {"ref": "refs/pull/1/merge"},
        {"repository": None},
        {"ref": []},
    ):
        with pytest.raises(RefusedError, match="no permitted value"):
            ours.identify(issuer.token(now=NOW, **claims | change))


def test_the_operating_system_verifies_no_token(issuer):
    with pytest.raises(RefusedError, match="no issuer"):
        SystemProvider().identify(issuer.token())
    assert SystemProvider().identify().principal.assurance == "asserted"


def test_the_token_of_a_process_is_read_from_a_variable_or_a_file(issuer, tmp_path, monkeypatch):
    ours = provider(issuer, tmp_path, token_env="ID_TOKEN")
    monkeypatch.delenv("ID_TOKEN", raising=False)
    with pytest.raises(RefusedError, match="ID_TOKEN holds none") as caught:
        ours.identify()
    assert "export ID_TOKEN" in caught.value.hint
    monkeypatch.setenv("ID_TOKEN", f" {issuer.token(now=NOW)}\n")
    assert ours.identify().principal.name == "ann@acme.example"
    monkeypatch.setenv("ID_TOKEN", issuer.token(now=NOW, aud="billing"))
    with pytest.raises(RefusedError, match="the token in the environment variable ID_TOKEN is for another"):
        ours.identify()
    ours = provider(issuer, tmp_path, token_file="run/token")
    with pytest.raises(RefusedError, match=r"run/token holds none"):
        ours.identify()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/token").write_text(issuer.token(now=NOW) + "\n")
    assert ours.identify().principal.name == "ann@acme.example"
    with pytest.raises(RefusedError, match="none was passed"):
        provider(issuer, tmp_path).identify()


def test_an_identity_is_a_value_without_its_token(issuer, tmp_path):
    token = issuer.token(now=NOW)
    found = provider(issuer, tmp_path).identify(token)
    assert token.split(".")[1] not in repr(dataclasses.asdict(found))
