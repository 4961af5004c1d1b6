"""Keys of model providers are found whole, and words, digests and settings are no keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.privacy import PatternDetector

DETECTOR = PatternDetector()


def found(text: str) -> list[str]:
    return [text[each.start : each.end] for each in DETECTOR.find(text) if each.kind == "secret"]


#: In pieces, so that no scanner takes this file for a leak.
KEYS = {
    "OpenAI": "sk-" + "proj-" + "Ab1_" * 20,
    "Anthropic": "sk-" + "ant-api03-" + "Ab1-" * 20,
    "Google": "AIza" + "Sy1" * 11 + "ab",
    "Groq": "gsk_" + "aB1" * 17 + "a", "Hugging Face": "hf_" + "aB" * 17,
    "xAI": "xai-" + "aB1c" * 20,
    "Perplexity": "pplx-" + "aB1c" * 12, "Replicate": "r8_" + "aB1c" * 9 + "a",
    "NVIDIA": "nvapi-" + "aB1_" * 16,
    "LangSmith": "lsv2" + "_pt_" + "a1b2" * 10,
    "OpenRouter": "sk-" + "or-v1-" + "a1b2" * 16,
}  # fmt: skip


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_of_a_model_provider_is_found_whole(key):
    for text in (f"use {key}.", f'{{"key":"{key}"}}', f"KEY={key}\n"):
        assert any(key.startswith(value) or value == key for value in found(text)), text
        assert "".join(found(text)).strip(".") == key


def test_a_private_key_is_found_from_its_first_line_to_its_last():
    key = "-----BEGIN EC PRIVATE KEY-----\n" + "MHcCAQEE\n" * 3 + "-----END EC PRIVATE KEY-----"
    assert found(f"before {key} after") == [key]
    assert found(f"before {key[:50]}") == [key[:50]]


@given(st.binary(min_size=16, max_size=64), st.uuids())
def test_no_digest_and_no_uuid_is_a_key(data, uuid):
    assert found(f"{data.hex()} sha256:{data.hex()} {uuid} digest = {data.hex()}") == []


@pytest.mark.parametrize(
    "text",
    [
        "hello world nothing here",
        "the-quick-brown-fox-jumps-over-the-lazy-dog",
        "password: required, token: optional, api_key: str",
        "secret_name = 'projects/1/secrets/mine' and token_count = 4096",
        "keyboard: QWERTY-2024-layout",
    ],
)
def test_words_and_settings_are_no_keys(text):
    assert found(text) == []
