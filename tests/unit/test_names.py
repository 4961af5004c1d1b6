"""Names as stores keep them: opaque, found again, and opened by their key alone."""

import re
import stat

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from workbench.errors import ConfigError, CorruptError
from workbench.memory.cipher import KEY_VARIABLE, IdCipher, load_cipher

ONE, TWO = IdCipher(key=b"1" * 64), IdCipher(key=b"2" * 64)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(tenant=words, name=words)
def test_encryption_is_deterministic_and_reversible(tenant, name):
    encrypted = ONE.encrypt(tenant, name)
    assert encrypted == ONE.encrypt(tenant, name)
    assert ONE.decrypt(tenant, encrypted) == name
    assert re.fullmatch(r"[A-Za-z0-9_-]+", encrypted)


@given(tenant=words, other=words, name=words)
def test_another_tenant_or_key_encrypts_otherwise_and_decrypts_nothing(tenant, other, name):
    assume(tenant != other)
    encrypted = ONE.encrypt(tenant, name)
    assert encrypted != ONE.encrypt(other, name)
    assert encrypted != TWO.encrypt(tenant, name)
    for names, asked in ((ONE, other), (TWO, tenant)):
        with pytest.raises(CorruptError, match="not written with this key"):
            names.decrypt(asked, encrypted)


@given(name=words)
def test_a_text_that_was_never_encrypted_is_refused(name):
    with pytest.raises(CorruptError):
        ONE.decrypt("acme", name)


def test_tenants_and_uuids_are_keyed():
    assert re.fullmatch(r"t[0-9a-f]{40}", ONE.tenant("acme"))
    assert ONE.tenant("acme") == ONE.tenant("acme") != TWO.tenant("acme")
    assert ONE.uuid("acme", "a", "bc") == ONE.uuid("acme", "a", "bc") != ONE.uuid("acme", "ab", "c")
    assert ONE.uuid("acme", "a").version == 8
    assert ONE.fingerprint != TWO.fingerprint


def test_without_a_key_names_stay_clear():
    assert (IdCipher().tenant("acme"), IdCipher().encrypt("acme", "x"), IdCipher().decrypt("acme", "x")) == (
        "acme", "x", "x",
    )  # fmt: skip


def test_the_key_is_created_once_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "state" / "memory.key"
    first = load_cipher(path, environment={})
    assert load_cipher(path, environment={}) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["memory.key"]


def test_the_environment_s_key_wins_and_no_file_is_made(tmp_path):
    names = load_cipher(tmp_path / "memory.key", environment={KEY_VARIABLE: "ab" * 64})
    assert names.key == b"\xab" * 64
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "x", "ab" * 63, "zz" * 64])
def test_an_invalid_key_is_refused_and_not_replaced(tmp_path, text):
    path = tmp_path / "memory.key"
    path.write_text(text)
    with pytest.raises(ConfigError, match="holds no key") as caught:
        load_cipher(path, environment={})
    assert "backup" in caught.value.hint
    assert path.read_text() == text
