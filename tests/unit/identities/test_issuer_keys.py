"""The keys of an issuer: in a file, or cached and rotated in memory."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from issuer import URL, Issuer

from workbench.errors import ConfigError, UnavailableError
from workbench.identities.keys import FRESH_S, REFETCH_S, KeySet, RemoteKeys, file_keys
from workbench.testing.fakes import FakeClock


class Served:
    """What an issuer answers, and how often it was asked."""

    def __init__(self, document: bytes) -> None:
        self.document, self.asked, self.down = document, 0, False

    def __call__(self, url: str) -> bytes:
        assert url == URL
        self.asked += 1
        if self.down:
            raise UnavailableError("cannot fetch the keys")
        return self.document


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def served(issuer):
    return Served(issuer.jwks())


@pytest.fixture
def keys(served):
    return RemoteKeys(URL, clock=FakeClock(), fetch=served)


def test_keys_are_fetched_once_an_hour(keys, served):
    for _ in range(5):
        assert keys.find("k1", "ES256")
    assert served.asked == 1
    keys._clock.advance(FRESH_S)
    assert keys.find("k1", "ES256") and served.asked == 2


def test_a_new_key_of_the_issuer_is_found_and_invented_key_ids_do_not_flood_it(keys, served, issuer):
    assert keys.find("k1", "ES256")
    issuer.rotate("k2")
    served.document = issuer.jwks()
    assert [keys.find(kid, "ES256") for kid in ("k2", "made-up", "made-up-2")] == [None] * 3
    assert served.asked == 1, "fetched just now"
    keys._clock.advance(REFETCH_S)
    assert keys.find("k2", "ES256") and served.asked == 2
    assert keys.find("k1", "ES256") is None, "the issuer withdrew it"
    for number in range(100):
        keys.find(f"made-up-{number}", "ES256")
    assert served.asked == 2


def test_while_the_issuer_is_unavailable_its_last_keys_serve_for_a_day(keys, served):
    assert keys.find("k1", "ES256")
    served.down = True
    keys._clock.advance(FRESH_S)
    assert keys.find("k1", "ES256") and served.asked == 2
    keys._clock.advance(86_400 - FRESH_S)
    with pytest.raises(UnavailableError, match="cannot fetch") as caught:
        keys.find("k1", "ES256")
    assert caught.value.retryable
    served.down = False
    keys._clock.advance(REFETCH_S)
    assert keys.find("k1", "ES256")


def test_while_one_thread_fetches_the_others_use_the_keys_that_are_there(keys, served, issuer):
    assert keys.find("k1", "ES256")
    keys._clock.advance(FRESH_S)
    asked, answer = threading.Event(), threading.Event()

    def slow(url):
        asked.set()
        assert answer.wait(10)
        return served(url)

    keys._fetch = slow
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(keys.find, "k1", "ES256")
        assert asked.wait(10)
        assert keys.find("k1", "ES256") and not waiting.done()
        answer.set()
        assert waiting.result(10)
    assert served.asked == 2


def test_threads_without_keys_share_one_fetch(served):
    keys = RemoteKeys(URL, clock=FakeClock(), fetch=served)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: keys.find("k1", "ES256"), range(32)))
    assert served.asked == 1


def test_an_issuer_that_never_answered_is_asked_every_few_seconds(served):
    served.down = True
    keys = RemoteKeys(URL, clock=FakeClock(), fetch=served)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            keys.find("k1", "ES256")
    assert served.asked == 1
    served.down = False
    keys._clock.advance(5)
    assert keys.find("k1", "ES256")


def test_a_document_that_is_damaged_is_not_taken_for_the_keys(keys, served, issuer):
    assert keys.find("k1", "ES256")
    served.document = b'{"keys": ['
    keys._clock.advance(FRESH_S)
    assert keys.find("k1", "ES256"), "the last keys serve"
    fresh = RemoteKeys(URL, clock=FakeClock(), fetch=served)
    with pytest.raises(ConfigError, match="not JSON"):
        fresh.find("k1", "ES256")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[]", "no JWKS document"),
        (b'{"keys": {}}', "no JWKS document"),
        (b'{"keys": ["k"]}', "no JWKS document"),
        (b"\xff", "not UTF-8"),
        (json.dumps({"keys": [{}] * 101}).encode(), "101 keys"),
        (json.dumps({"keys": [{"kty": "EC", "d": "secret"}]}).encode(), "private key"),
        (json.dumps({"keys": [{"kty": "RSA", "n": "AQAB", "p": "secret"}]}).encode(), "private key"),
    ],
)
def test_a_file_that_is_no_document_of_public_keys_is_an_error(tmp_path, data, said):
    path = tmp_path / "jwks.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=said) as caught:
        file_keys(path)
    assert "secret" not in str(caught.value)


def test_a_file_is_read_again_after_it_has_changed(tmp_path, issuer):
    path = tmp_path / "jwks.json"
    with pytest.raises(ConfigError, match=r"identity\.keys"):
        file_keys(path)
    path.write_bytes(issuer.jwks())
    os.utime(path, (1, 1))
    assert file_keys(path).find("k1", "ES256")
    path.write_bytes(Issuer("k2").jwks())
    assert file_keys(path).find("k1", "ES256") is None and file_keys(path).find("k2", "ES256")
    path.write_bytes(b" " * 1_000_001)
    with pytest.raises(ConfigError, match="larger"):
        file_keys(path)


def test_a_set_keeps_no_key_ids_that_tokens_invent(issuer):
    found = KeySet(issuer.jwks(), where="jwks")
    for number in range(1_000):
        assert found.find(f"made-up-{number}", "ES256") is None
    assert found.find("k1", "ES256") and len(found._known) == 1
