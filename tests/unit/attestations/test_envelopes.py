"""DSSE envelopes: what is signed, and that no byte of one can be changed."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_statements import key_of, statement_of
from sizes import drawn

from workbench.attestations import dsse
from workbench.attestations.dsse import Envelope
from workbench.errors import ConfigError, CorruptError

ADA, BOB = key_of("ada", 1), key_of("bob", 2)


@pytest.fixture(scope="module")
def data() -> bytes:
    return ADA.sign(statement_of(verdict="pass", note="für Ada")).to_bytes()


def test_the_encoding_is_that_of_the_specification():
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("ü", b"") == b"DSSEv1 2 \xc3\xbc 0 "


@given(payload=st.binary(max_size=300), name=st.text(min_size=1, max_size=20).filter(lambda t: "\0" not in t))
def test_an_envelope_is_read_as_it_was_written_and_verified_by_its_key_alone(payload, name):
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    envelope = dsse.sign(payload, ADA.key, payload_type=name)
    read = Envelope.parse(envelope.to_bytes(), where="e")
    assert read == envelope and read.payload == payload
    assert read.is_signed_by(ADA.key.public_key()) and not read.is_signed_by(BOB.key.public_key())


def test_every_changed_byte_is_refused(data):
    """Each position gets another byte, and is taken out; whatever still parses has no signature."""
    shuffled = random.Random(7)
    places = drawn(range(len(data)), 150)
    for place in places:
        other = data[place] ^ shuffled.randrange(1, 256)
        for changed in (
            data[:place] + bytes([other]) + data[place + 1 :],
            data[:place] + data[place + 1 :],
            data[:place] + b" " + data[place:],
        ):
            try:
                envelope = Envelope.parse(changed, where="e")
            except CorruptError:
                continue
            known = envelope.key_id == ADA.key_id
            assert not (known and envelope.is_signed_by(ADA.key.public_key())), place


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda raw: raw | {"extra": 1}, "extra"),
        (lambda raw: {"payload": raw["payload"]}, "missing"),
        (lambda raw: raw | {"signatures": []}, "one signature"),
        (lambda raw: raw | {"signatures": raw["signatures"] * 2}, "one signature"),
        (lambda raw: raw | {"payload": "%%%"}, "base64"),
        (lambda raw: raw | {"payload": 7}, "payload"),
        (lambda raw: raw | {"payloadType": "t" * 201}, "payloadType"),
        (lambda raw: raw | {"signatures": [raw["signatures"][0] | {"sig": "AA=="}]}, "64 bytes"),
        (lambda raw: raw | {"signatures": [raw["signatures"][0] | {"cert": ""}]}, "cert"),
        (lambda raw: [raw], "envelope.json"),
    ],
)
def test_an_envelope_of_another_form_is_refused_by_name(data, change, word):
    wrong = json.dumps(change(json.loads(data)), separators=(",", ":"), sort_keys=True).encode() + b"\n"
    with pytest.raises(CorruptError, match=word) as error:
        Envelope.parse(wrong, where="envelope.json")
    assert "envelope.json" in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"payload":"","payload":""}', "twice"),
        (b"[" * 100_000, "deep"),
        (b'{"payload":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "deep"),
        (b" " * (dsse.MOST_BYTES + 1), "more than 16 MB"),
    ],
)
def test_what_is_no_json_is_refused_by_name(wrong, word):
    with pytest.raises(CorruptError, match=word):
        Envelope.parse(wrong, where="e")


def test_spaces_and_other_orders_are_other_bytes(data):
    raw = json.loads(data)
    for other in (
        json.dumps(raw).encode(),
        data.rstrip(b"\n"),
        data + b"\n",
        b"\xef\xbb\xbf" + data,
        json.dumps(dict(reversed(raw.items())), separators=(",", ":")).encode() + b"\n",
    ):
        with pytest.raises(CorruptError, match="canonical"):
            Envelope.parse(other, where="e")


def test_unused_bits_of_base64_cannot_be_changed():
    data = dsse.sign(b"a", ADA.key).to_bytes()  # one byte: YQ==, and YR== decodes to it too
    assert b'"YQ=="' in data
    with pytest.raises(CorruptError, match="canonical"):
        Envelope.parse(data.replace(b'"YQ=="', b'"YR=="'), where="e")


def test_a_value_that_json_cannot_hold_is_not_signed():
    with pytest.raises(ConfigError, match="finite"):
        ADA.sign(statement_of(value=float("nan")))
