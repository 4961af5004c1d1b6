"""What is found in a line, and what is ordinary text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.notebooks.patterns import in_text

ROOT = Path(__file__).resolve().parents[3]


def kinds(text):
    return [what for _, what, _ in in_text(text.split("\n"))]


#: The value itself stands in guillemets, which are taken out.
SECRETS = {
    "an AWS access key": ["«AKIA" + "Q7" * 8 + "»", "key: '«ASIA" + "Z" * 16 + "»'"],
    "a GitHub token": ["«ghp_" + "a1" * 18 + "»", "«github_pat_" + "a1" * 20 + "»"],
    "a model provider's key": ["«sk-" + "a1" * 12 + "»", "«sk-proj-" + "Ab_9-" * 9 + "»"],
    "a provider's token": ["«hf_" + "aB" * 17 + "»", "«AIza" + "x" * 35 + "»", "«xoxb-" + "1" * 24 + "»"],
    "a JSON web token": ["«eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl»"],
    "a private key": ["-----BEGIN PRIVATE KEY-----«MIIE»", "-----BEGIN RSA PRIVATE KEY-----«MIIE»"],
    "a bearer token": ["Authorization: Bearer «" + "a1" * 12 + "»"],
    "a password in an address": ["postgresql://ada:«hunter2»@db/prod", "redis://:«hunter2»@cache:6379"],
    "a password, key or token written out": [
        "password = '«hunter2»'",
        "login(user='ada', password=\"«hunter2»\")",
        "DB_PASSWORD: str = r'«hunter2»'",
        '{"passphrase": "«correct-horse»"}',
        "os.environ['SERVICE_API_KEY'] = '«zaCELgL0imfnc8mVLWwsAawjYr4R»'",
        "client_secret = b'«zaCELgL.0imfnc8mVLWwsAaw»'",
        "headers = {'X-Access-Token': '«zaCELgL0imfnc8mVLWws»'}",
    ],
}
PERSONAL = {
    "an e-mail address": ["«ada.lovelace@engines.co.uk»", "<«b@mail.example-corp.com»>", "to:«x_y+z@t.de»"],
    "an IBAN": [
        "«DE89 3704 0044 0532 0130 00»",
        "«GB82WEST12345698765432»",
        "«NL91 ABNA 0417 1643 00» EUR 12",
        "«NO93 8601 1117 947»,",
    ],
    "a payment card's number": [
        "«4111111111111111»",
        "«5500 0000 0000 0004»",
        "«3782-822463-10005»",
        "card=«2223003122003222»;",
        "«6212 3456 7890 0000 003»",
        "«30569309025904»",
        "«\uff14\uff11\uff11\uff11 1111\u200b 1111 1111»",
    ],
    "a telephone number": [
        "«+49 30 901820»",
        "call «+44 (0)20 7946 0018» now",
        "tel:«+4915112345678»",
        "«+1-415-736-0000»",
        "«+34 612 345 678»",
        "«+420 601/234 567».",
    ],
    "an identity number": ["SSN: «536-90-4399»", "DNI «54362315K»"],
    "a tax number": ["CPF «390.533.447-05»", "USt-IdNr. «DE136695976»"],
}
#: ⌂ stands for the slash of a path that no file of this repository may hold, this one included.
PATHS = {
    "a path of one machine": [
        "open('«⌂home/ada»/data.csv')",
        "f'«/Users/ada»/{x}'",
        "root = '«⌂root»'",
        "«⌂work/main»/notebooks",
        "saved to «/tmp/frame.parquet».",
        "<td>«/mnt/share»/x</td>",
        "file://«⌂home/ada»/x",
        "--out=«/var/tmp/x»",
        "r'«C:\\Users\\ada»\\data'",
        "'«C:\\\\Users\\\\ada»'",
        "«d:/Users/ada»",
    ]
}
CASES = [
    (what, text.replace("⌂", "/"))
    for table in (SECRETS, PERSONAL, PATHS)
    for what, texts in table.items()
    for text in texts
]


@pytest.mark.parametrize(("what", "text"), CASES)
def test_what_may_not_be_frozen_is_found_and_its_value_is_not_repeated(what, text):
    before, value, after = re.split("[«»]", text)
    ((line, found, fix),) = in_text(["# first", f"y = 2  # {before}{value}{after}"])
    assert (line, found) == (2, what)
    assert fix and value not in found + fix


ORDINARY = [
    "sha256:065665c041c42a5938ed220bdcd7230f22527fbec085e1853d2402c8a3615d9d",
    "4111111111111111a0f1 e4111111111111111 4111111111111112",
    "0.4111111111111111 4111111111111111.5 1.4111111111111111e-05 -4111111111111111",
    "1764000000123 1764000000123456 1764000000123456789 4532148803436467123",
    "[4532 1488 0343 6467 2311 4532 1488 0343 6467]",
    "9f1c2b3e-4111-1111-1111-111111111111",
    "2026-11-24T06:00:00.123456+01:00 2026-11-24 23:55:42.243327 UTC",
    "CPU times: user 269 µs, sys: 47 µs, total: 316 µs",
    "100%|██████████| 3/3 [00:00<00:00, 54708.31it/s]",
    "delta +12345678 +0.5123456789 +1.5e+10 1.0+2.0j x+4930123456",
    "+20 2026-11-24 +30   901820   1234567",
    "GB82WEST12345698765433 GB82WEST12345698765432X XX82WEST12345698765432 DE12",
    "jane@example.org bob@mail.example.com x@host.invalid a@b.test root@localhost",
    "git@github.com:org/repo.git icon@2x.png answer@2.prompty ws.prompt('answer@production')",
    "https://example.org/home/ada /v1/chat /api/tmp/x ./work/x ../tmp/x ~⌂work {root}/tmp/x",
    "either/work/or, x/tmp, f'{base}⌂home/ada', </tmp>, /tmpfiles, /workers, /rooted, /home, /Users",
    "Question:\\nAnswer: A:\\Users2 https://C:8080/Users",
    "password = getpass() ; password = '' ; password = '<password>' ; password = '****'",
    "token = 'the' ; eos_token = '<|endoftext_100257|>' ; api_key = 'not-needed' ; max_tokens = 256",
    "password = f'{secret}' ; api_key = 'MY_OPENAI_API_KEY_2' ; api_key = os.environ['OPENAI_API_KEY']",
    "{'input_type': 'password', 'tokenizer': 'cl100k_base_v2_long', 'monkey': 'abcdefgh12345678'}",
    "postgresql://{user}:{password}@db/prod https://example.org:8080/a@b http://host:80/x?y=a:b",
    "ask-learn-something-about-2026-models sk-short1 b'sk-ecdsa-sha2-nistp256-cert-v01'",
    "Bearer authentication-is-described-below -----BEGIN PUBLIC KEY----- eyJhbGciOiJIUzI1NiJ9",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_no_alarm(text):
    assert kinds(text.replace("⌂", "/")) == []


def test_what_this_repository_reports_is_no_alarm():
    places = [ROOT / "reports", ROOT / "results" / "answers", ROOT / "notebooks"]
    read = [path for place in places for path in place.rglob("*.*") if path.suffix != ".parquet"]
    assert read
    assert not {path.name: found for path in read if (found := kinds(path.read_text(encoding="utf-8")))}


@given(st.lists(st.floats() | st.dates() | st.datetimes() | st.timedeltas() | st.uuids(), max_size=5))
def test_numbers_dates_and_ids_as_python_prints_them_are_no_alarm(values):
    assert kinds(f"{values} {[str(value) for value in values]}") == []


@given(st.binary(min_size=16, max_size=64))
def test_a_digest_is_no_alarm(data):
    assert kinds(f"{data.hex()} sha256:{data.hex()} {data.hex()[:12]}") == []


def luhn(number):
    digits = [int(digit) for digit in str(number)]
    return sum(sum(divmod(2 * d, 10)) if place % 2 else d for place, d in enumerate(reversed(digits))) % 10


@given(st.integers(4 * 10**14, 5 * 10**14 - 1))
def test_of_sixteen_digits_that_differ_in_the_last_one_exactly_one_is_a_card(start):
    found = [number for number in range(10 * start, 10 * start + 10) if kinds(f"n {number}")]
    assert found == [number for number in range(10 * start, 10 * start + 10) if not luhn(number)]
    assert len(found) == 1


@given(st.integers(0, 10**18 - 1), st.integers(2, 98))
def test_an_iban_counts_with_the_one_right_checksum(account, other):
    right = 98 - int(f"{account:018d}131400") % 97
    assert kinds(f"DE{right:02d}{account:018d}") == ["an IBAN"]
    if other != right:
        assert "an IBAN" not in kinds(f"DE{other:02d}{account:018d}")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit", ["a", " ", "a.", "password ", "eyJ", "a@", "4111 ", "DE89 ", "http://a:", "+49"]
)
def test_a_very_long_line_takes_no_very_long_time(unit):
    assert kinds(unit * (150_000 // len(unit))) == []
