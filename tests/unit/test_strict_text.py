"""YAML and JSON are read exactly, or refused at once with the file, the line and the key."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import resource
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import files
from workbench.errors import ConfigError, WorkbenchError
from workbench.experiments.dataset import Dataset
from workbench.experiments.inputs import read

pytestmark = pytest.mark.timeout(60)
MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    whole: int = 0
    real: float | None = None
    exact: decimal.Decimal | None = None


def bomb(levels: int, form: str = "[{}]") -> str:
    lines = ["a0: &a0 [x, x]" if form == "[{}]" else "a0: &a0 {x: 1}"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} " + form.format(", ".join([f"*a{level - 1}"] * 10)))
    return "\n".join(lines)


#: Malformed YAML, the line of its fault and a word of the error.
MALFORMED = {
    "flow lists": ("a: " + "[" * 10_000 + "]" * 10_000, 1, "nested deeper"),
    "flow lists that do not end": ("\na: " + "[" * 400_000, 2, "nested deeper"),
    "flow mappings": ("a: " + "{a: " * 10_000 + "}" * 10_000, 1, "nested deeper"),
    "block lists": ("- " * 10_000 + "x", 1, "nested deeper"),
    "block mappings": ("\n".join(" " * level + "a:" for level in range(500)), 60, "nested deeper"),
    "alias bomb": (bomb(9), 5, "more than"),
    "merge bomb": (bomb(9, "{{<<: [{}]}}"), 5, "more than"),
    "alias of itself": ("a: 1\nb: &b [*b]", 2, "contains itself"),
    "alias of its second anchor": ("a: &b 1\nb: &b [*b]", 2, "contains itself"),
    "unknown alias": ("a: *b", 1, "undefined alias"),
    "many values": ("a: 1\nb: [" + "1," * 20_000 + "]", 2, "more than"),
    "many digits": ("a: 1\nb: " + "9" * 5_000, 2, "400 digits"),
    "many hexadecimal digits": ("a: 0x" + "f" * 5_000, 1, "400 digits"),
    "a large decimal": ("a: " + "9" * 5_000 + ".5", 1, "finite"),
    "infinity": ("a: 1\nb: 2\nc: .inf", 3, "finite"),
    "no number": ("a: 1\nb: -.inf\nc: .nan", 2, "finite"),
    "no day": ("a: 1\nday: 2025-02-30", 2, "day is out of range"),
    "no month": ("day: 2025-13-01", 1, "month"),
    "no hour": ("day: 2025-01-01T25:00:00Z", 1, "hour"),
    "year 0": ("day: 0000-01-01", 1, "year"),
    "half a pair": ('a: 1\nb: "\\ud83d"', 2, "surrogate"),
    "a character too large": ('a: "\\UFFFFFFFF"', 1, "not YAML"),
    "a null character": ("a: 1\nb: \0", 2, "U\\+0000"),
    "a tag of Python": ("a: !!python/object/apply:os.system [x]", 1, "constructor"),
    "a tag that lies": ("a: 1\nb: !!int x", 2, "cannot be read"),
    "a tag of no boolean": ("b: !!bool x", 1, "cannot be read"),
    "keys twice": ("a: 1\nb: 1\na: 2", 3, "duplicate"),
    "a mapping as key": ("? {a: 1}\n: 1", 1, "unhashable"),
    "two documents": ("a: 1\n---\nb: 1", 2, "another document"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_yaml_is_one_error_with_its_line_at_once(name):
    text, line, word = MALFORMED[name]
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=rf"^f\.yaml:{line}: .*{word}") as caught:
        files.parse_yaml(text, where="f.yaml")
    assert caught.value.hint and len(caught.value.message) < 400
    assert time.process_time() - started < 3  # 2 s on a machine that does nothing else
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * MB / 1024


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "f.yaml").write_text("a: 1\n" + "#" * 600_000)
    with pytest.raises(ConfigError, match="characters"):
        files.read_yaml(tmp_path / "f.yaml")
    with (tmp_path / "f.yaml").open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="larger than"):
        files.read_yaml(tmp_path / "f.yaml")


def test_a_text_that_is_parsed_again_has_a_value_of_its_own():
    text = "a: {b: [1]}\nat: [2026-11-30, 2026-11-30T12:00:00+02:00, 0.5]\n"
    first = files.parse_yaml(text, where="f.yaml")
    assert files.parse_yaml(text, where="f.yaml") == first
    first["a"]["b"].append(2)
    assert files.parse_yaml(text, where="f.yaml")["a"] == {"b": [1]}
    for name in ("f.yaml", "g.yaml"):
        with pytest.raises(ConfigError, match=rf"^{name}:1: "):
            files.parse_yaml("a: [", where=name)


def test_yaml_within_the_bounds_has_its_exact_value(tmp_path):
    text = '\ufeffa: &a [1, 0x10, 1.5]\nb: [*a, *a]\nc: {<<: {d: 2025-02-28}, e: "\\ud83d\\ude00"}\n'
    text += "f: 18446744073709551615\n"
    (tmp_path / "f.yaml").write_text(text)
    item = [1, 16, 1.5]
    assert files.read_yaml(tmp_path / "f.yaml") == {
        "a": item, "b": [item, item], "c": {"d": dt.date(2025, 2, 28), "e": "😀"}, "f": (1 << 64) - 1,
    }  # fmt: skip
    deep = "a: " + "[" * 58 + "]" * 58
    assert str(files.parse_yaml(deep, where="f")["a"]) == "[" * 58 + "]" * 58


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False) | st.dates(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(plain)
def test_what_is_written_as_yaml_is_read_back(value):
    assert files.parse_yaml(files.yaml_text({"a": value}), where="f") == {"a": value}


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab1.:-[]{},&*!|>'\"#%@`? \n\t\\<~\ufeff", max_size=40))
def test_any_text_is_a_mapping_or_one_error_of_ours(text):
    fault = None
    try:
        assert isinstance(files.parse_yaml(text, where="f"), dict)
    except ConfigError as error:
        fault = error
    assert fault is None or (fault.message.startswith("f:") and fault.hint)


INEXACT = (
    "0.1000000000000000055",
    "0." + "1" * 5_000,
    "9007199254740993.0",
    "1.0000000000000000001e5",
    "-1_000.00000000000000001",
)


@pytest.mark.parametrize("number", INEXACT)
def test_a_decimal_that_no_float_holds_is_refused_by_its_line(number):
    with pytest.raises(ConfigError, match=r"^f:2: .* write it as text"):
        files.parse_yaml(f"a: 1\nb: [{number}]", where="f")
    assert files.parse_yaml(f"b: '{number}'", where="f") == {"b": number}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 200 + "]" * 200, "nested deeper"),
        ("[" * 100_000, "nested deeper"),
        ('{"a": ' * 200 + "1" + "}" * 200, "nested deeper"),
        ('{"a": 1, "b": {"c": NaN}}', r"b\.c: nan is not a finite"),
        ('{"a": [1, -Infinity]}', r"a\.1: -inf is not a finite"),
        ('{"a": 1e999}', "a: inf is not a finite"),
        ('{"a": 18446744073709551616}', "a: integer exceeds 64-bit"),
        ('{"a": -9223372036854775809}', "a: integer exceeds 64-bit"),
        ('{"a": ' + "9" * 5_000 + "}", "a: integer exceeds 64-bit"),
        ('{"a": {"b": "x\\ud83d"}}', r"a\.b: half of a surrogate"),
        ('{"\\udc00": 1}', "half of a surrogate"),
        ('{"a": 1, "b": 2, "a": 1}', "'a' is there twice"),
        ('{"a": 1', r"not JSON: .* \(column 8\)"),
        ("{'a': 1}", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_json_that_is_not_exact_is_refused_by_name(text, said):
    with pytest.raises(ConfigError, match=rf"^f:3: .*{said}") as caught:
        files.parse_json(text, where="f:3")
    assert len(caught.value.message) < 300


def test_json_within_the_bounds_has_its_exact_value():
    text = '\ufeff{"a": 18446744073709551615, "b": -9223372036854775808, "c": "\\ud83d\\ude00", "d": 0.1}'
    expected = {"a": (1 << 64) - 1, "b": -(1 << 63), "c": "😀", "d": 0.1}
    assert files.parse_json(text, where="f") == expected
    assert str(files.parse_json("[" * 99 + "]" * 99, where="f")) == "[" * 99 + "]" * 99


@settings(max_examples=60, deadline=None)
@given(plain.filter(lambda value: "date" not in repr(value)), st.booleans())
def test_what_json_writes_is_read_back(value, ascii_only):
    assert files.parse_json(json.dumps(value, ensure_ascii=ascii_only), where="f") == value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_in_the_place_of_an_optional_number_is_not_nothing(value):
    with pytest.raises(ConfigError, match=r"f: real: .*finite"):
        files.parse(Numbers, {"real": value}, where="f")
    assert files.parse(Numbers, {"real": None}, where="f") == Numbers()


def test_a_decimal_is_read_as_a_decimal_and_not_as_a_float():
    given = decimal.Decimal("1.10")
    assert str(files.parse(Numbers, {"exact": given}, where="f").exact) == "1.10"
    with pytest.raises(ConfigError, match="real"):
        files.parse(Numbers, {"real": given}, where="f")


LINE = '{{"id": "a", "tenant": "acme", "question": "q", "answers": [{}], "page": "p"}}\n'


def test_two_datasets_that_differ_have_two_digests_or_are_refused(tmp_path):
    path, digests = tmp_path / "cases.jsonl", set()
    values = (
        "1",
        "1.0",
        '"1"',
        "true",
        "null",
        "9007199254740992",
        "9007199254740993",
        '"\\u00e9"',
        '"e\\u0301"',
    )
    for value in values:
        path.write_text("\ufeff" + LINE.format(value))
        digests.add(Dataset.from_file(path).digest)
    assert len(digests) == len(values)
    for value in ("18446744073709551616", "18446744073709551617", "NaN", "1e999", '"\\ud83d"'):
        path.write_text(LINE.format('"x"').replace('"a"', '"b"') + LINE.format(value))
        with pytest.raises(ConfigError, match=r"cases\.jsonl:2: answers\.0: ") as caught:
            Dataset.from_file(path)
        assert caught.value.hint


@pytest.mark.parametrize("value", [math.nan, math.inf, decimal.Decimal("1.1"), b"x"])
def test_a_frame_whose_digest_would_not_be_its_own_is_refused(value):
    frame = pl.DataFrame(
        {"id": ["a"], "tenant": ["acme"], "question": ["q"], "answers": [[value]], "page": ["p"]}
    )
    with pytest.raises(ConfigError, match="row 1"):
        Dataset.from_frame(frame)


def test_a_row_that_is_set_aside_keeps_its_text(tmp_path):
    lines = [
        '{"id": "a", "v": 1}',
        '{"id": "b", "v": NaN}',
        '{"id": "c", "v": 18446744073709551616}',
        "[1]",
        "{not",
    ]
    (tmp_path / "in.jsonl").write_text("\ufeff" + "\n".join(lines) + "\n")
    rows = read(tmp_path / "in.jsonl")
    assert [row.text for row in rows] == ["", *lines[1:]]
    assert rows[0].columns == {"id": "a", "v": 1} and "v: nan" in rows[1].fault
    assert [row.number for row in rows] == [1, 2, 3, 4, 5]
    assert "v: integer exceeds" in rows[2].fault and "object" in rows[3].fault and "not JSON" in rows[4].fault


def test_errors_of_deep_texts_are_ours_wherever_they_are_read(tmp_path):
    (tmp_path / "params.yaml").write_text("use_cases: " + "[" * 10_000)
    from workbench import config

    with pytest.raises(WorkbenchError, match=r"params\.yaml:1: nested"):
        config.load_params(tmp_path)
