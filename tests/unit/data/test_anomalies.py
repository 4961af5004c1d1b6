"""Known answers of each detector, and properties that hold for any texts."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizes import SOAK

from workbench.data import anomalies
from workbench.data.anomalies import (
    damaged,
    other_languages,
    outliers,
    unknown_values,
    unusual_lengths,
)
from workbench.data.near_duplicates import near_duplicates, shingles


def indexes(found):
    return [item.index for item in found]


# -- outliers


def test_a_number_far_from_the_others_is_an_outlier_and_the_nearest_are_not():
    found = outliers([*range(100), 1_000, None, -900.0])
    assert indexes(found) == [100, 102]
    assert "1000 is" in found[0].reason and "from 49.5" in found[0].reason


def test_the_spread_is_the_robust_standard_deviation():
    """Of 1 to 21 the median is 11 and the median deviation 5, so one spread is 5 x 1.4826 = 7.413."""
    values = [float(n) for n in range(1, 22)]
    assert outliers([*values, 11 + 3 * 7.413 + 8], spread=3) and not outliers(
        [*values, 11 + 3 * 7.2], spread=3
    )


def test_equal_values_with_one_exception_have_that_outlier():
    assert indexes(outliers([5.0] * 99 + [6.0])) == [99]


def test_few_values_and_no_values_have_no_outlier():
    assert outliers([1.0] * 18 + [9_999.0]) == [] and outliers([]) == [] and outliers([None] * 50) == []


def test_lengths_are_compared_as_logarithms():
    texts = ["x" * n for n in range(30, 330)]
    found = unusual_lengths([*texts, "y" * 100_000, None])
    assert indexes(found) == [300] and "100000 characters" in found[0].reason and "yyy" not in found[0].reason


def test_amounts_of_many_magnitudes_are_compared_as_logarithms():
    amounts = [1.2**n for n in range(60)]
    assert outliers(amounts) and outliers([*amounts, 0, -5, None], scale="log") == []
    [found] = outliers([*amounts, 1e30], scale="log")
    assert found.index == 60 and found.reason.startswith("1e+30 is")


# -- categories and languages


def test_an_unknown_value_names_the_nearest_known_one():
    [found] = unknown_values(["billing", None, "biling"], {"billing", "access"})
    assert found.index == 2 and "'biling'" in found.reason and "nearest: 'billing'" in found.reason


GERMAN = "Ich habe eine falsche Rechnung bekommen und möchte mein Geld zurück."
ENGLISH = "I received a wrong invoice yesterday and would like to get my money back."


def test_a_text_in_another_language_is_found_and_a_short_one_is_undecided():
    texts = [ENGLISH, GERMAN, "Rechnung falsch", None, "", "12345 " * 30]
    found = other_languages(texts, ["en"])
    assert indexes(found) == [1] and "'de'" in found[0].reason and "Rechnung" not in found[0].reason
    assert other_languages(texts, ["de", "en"]) == []


# -- damaged encodings


@pytest.mark.parametrize("code", ["cp1252", "latin-1"])
@pytest.mark.parametrize(
    "text", ["Küche", "café", "don\u2019t", "10 €", "naïve", "Škoda", "żółty", "a \u2013 b", "smile 😀"]
)
def test_utf8_in_a_wrong_decoding_is_found(text, code):
    assert indexes(damaged([text.encode().decode(code)])) == [0]
    assert damaged([text]) == []


@pytest.mark.parametrize("text", ["f\ufffdr", "caf\x8e", "\x93quoted\x94"])
def test_undecoded_characters_are_found_with_their_place(text):
    [found] = damaged([text])
    place = next(n for n, sign in enumerate(text, start=1) if sign == "\ufffd" or "\x80" <= sign <= "\x9f")
    assert f"at character {place}" in found.reason and text not in found.reason


@pytest.mark.parametrize(
    "text",
    [
        "„Maß“ und „Spaß“, Größe 5 °C",
        "« Évidemment » \u2013 ça coûte 10 €",
        "São Paulo: NÃO É AQUI",
        "Ångström, „Å“, smørrebrød",
        "Zażółć gęślą jaźń",
        "日本語のテキスト 😀",
        "plain text? yes",
        "",
        None,
    ],
)
def test_intact_texts_of_many_languages_are_not_damaged(text):
    assert damaged([text]) == []


# -- near-duplicates


def test_shingles_are_runs_of_three_words_without_case():
    assert shingles("The cat, the DOG; the fox") == {
        ("the", "cat", "the"), ("cat", "the", "dog"), ("the", "dog", "the"), ("dog", "the", "fox"),
    }  # fmt: skip
    assert shingles("Two words") == {("two", "words")} and shingles(" … ") == frozenset()


def test_the_similarity_is_that_of_jaccard():
    """10 words have 8 shingles, one more word adds one: 8 of 9 are common."""
    first = "one two three four five six seven eight nine ten"
    [pair] = near_duplicates(
        [first, "quite another text about other things", f"{first} eleven"], threshold=0.85
    )
    assert (pair.index, pair.earlier, pair.similarity) == (2, 0, 8 / 9)
    assert near_duplicates([first, f"{first} eleven"], threshold=0.89) == []


def test_equal_texts_are_duplicates_of_the_first_whatever_their_case_and_punctuation():
    pairs = near_duplicates(["A b c d.", "a B c, d", None, "", "", "a b c d"])
    assert [(pair.index, pair.earlier, pair.similarity) for pair in pairs] == [(1, 0, 1.0), (5, 0, 1.0)]


def leaders(texts, threshold):
    """The same by comparing each text with every kept one."""
    kept, gone = [], set()
    for number, text in enumerate(texts):
        own = shingles(text)
        similar = [o for n, o in kept if own and len(own & o) >= threshold * len(own | o) - 1e-9]
        if similar:
            gone.add(number)
        elif own:
            kept.append((number, own))
    return gone


@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join), max_size=25),
    st.sampled_from([0.3, 0.5, 0.8, 0.9, 1.0]),
)
def test_the_index_finds_what_comparing_all_pairs_finds(texts, threshold):
    pairs = near_duplicates(texts, threshold=threshold)
    assert {pair.index for pair in pairs} == leaders(texts, threshold)
    for pair in pairs:
        assert pair.earlier < pair.index and pair.similarity >= threshold - 1e-9


@pytest.mark.parametrize("kind", ["random", "template", "same"])
def test_thousands_of_texts_take_seconds(kind):
    size, seconds = (10_000, 15) if SOAK else (3_000, 5)
    draw = random.Random(5)
    words = [f"w{n}" for n in range(2_000)]
    texts = {
        "random": lambda: " ".join(draw.choices(words, k=25)),
        "template": lambda: (
            f"Hello, my {draw.choice(words[:9])} fails since {draw.randint(1, 28)} May, please "
            f"help me with case {draw.randint(1, 10**6)} as soon as you can. Kind regards"
        ),
        "same": lambda: "One text that stands in the table again and again " + "x" * draw.randint(0, 1),
    }[kind]
    rows = [texts() for _ in range(size)]
    begun = time.process_time()
    found = near_duplicates(rows, threshold=0.8)
    assert time.process_time() - begun < seconds
    assert len(found) == {"random": 0, "same": size - 1}.get(kind, len(found))


@given(st.lists(st.none() | st.text(), max_size=30))
def test_any_text_is_judged_without_an_error(texts):
    for detect in (damaged, unusual_lengths, near_duplicates):
        assert all(0 <= item.index < len(texts) for item in detect(texts))
    assert all(item.index < len(texts) for item in unknown_values(texts, ["a"]))
    assert anomalies.other_languages([text for text in texts if text and len(text) < 40], ["en"]) == []
