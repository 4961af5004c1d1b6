"""The list of names that a user keeps: its terms are found, and a malformed list is refused by its line."""

import pytest

from workbench.errors import ConfigError
from workbench.folding import fold
from workbench.privacy import PatternDetector
from workbench.privacy.lexicon import names


def listed(tmp_path, text: str | bytes) -> PatternDetector:
    path = tmp_path / "names.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return PatternDetector.with_lexicon(path)


def test_terms_are_found_in_any_case_accent_and_spacing(tmp_path):
    detector = listed(tmp_path, "# ours\nZoltán Xyzzy\n\n[project]\nBlue Heron\nBlue\n")
    text = "zoltan xyzzy and ZOLTÁN\u200b  XYZZY work on blue\nheron, not on bluebird."
    assert [(each.kind, text[each.start : each.end]) for each in detector.find(text)] == [
        ("person", "zoltan xyzzy"),
        ("person", "ZOLTÁN\u200b  XYZZY"),
        ("project", "blue\nheron"),
    ]


def test_a_long_list_costs_no_more_than_its_hits(tmp_path):
    detector = listed(tmp_path, "\n".join(f"Name{number} Surname{number}" for number in range(50_000)))
    assert [each.kind for each in detector.find("x " * 500 + "name49999 surname49999")] == ["person"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[Not a kind]\nAnna\n", "line 1"),
        ("Anna\n-\n", "line 2"),
        ("x\n", "line 1"),
        ("a" * 201, "line 1"),
        (b"\xff\xfe", "UTF-8"),
        (b"a" * 4_000_001, "too large"),
    ],
)
def test_a_malformed_list_is_refused_by_its_line(tmp_path, content, word):
    with pytest.raises(ConfigError, match=word):
        listed(tmp_path, content)


def test_a_missing_list_is_refused_by_its_name(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.txt"):
        PatternDetector.with_lexicon(tmp_path / "absent.txt")


def test_the_lists_of_the_package_are_plain_words():
    for kind in ("first", "weak", "last", "surnames", "titles", "greetings", "streets", "others"):
        assert names(kind)
        assert all(word.isascii() and fold(word).text == word for word in names(kind))
    assert not names("first") & names("weak")
