from __future__ import annotations

import dataclasses
import errno
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from workbench import files
from workbench.errors import ConfigError, NotFoundError, UnavailableError
from workbench.files import folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    number: int
    inner: dict[str, Inner] = field(default_factory=dict)
    names: tuple[str, ...] = ()


def test_a_typo_is_named_with_the_nearest_known_key_also_deep_inside():
    with pytest.raises(ConfigError, match=r"f\.yaml: unknown key 'numbr' \(nearest: 'number'"):
        files.parse(Outer, {"numbr": 1}, where="f.yaml")
    with pytest.raises(ConfigError, match=r"unknown key 'inner\.a\.color' \(nearest: 'colour'\)"):
        files.parse(Outer, {"number": 1, "inner": {"a": {"color": "red"}}}, where="f.yaml")


def test_a_missing_key_and_a_wrong_type_are_named():
    with pytest.raises(ConfigError, match="missing key 'number'"):
        files.parse(Outer, {}, where="f.yaml")
    with pytest.raises(ConfigError, match="number: input should be a valid integer"):
        files.parse(Outer, {"number": "1"}, where="f.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Formed:
    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    part: str | Inner = ""
    mode: Literal["observe", "refuse"] | dict[Literal["mvp", "mlvp"], Literal["observe", "refuse"]] = "refuse"
    share: float | None = None


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"share": "$10"}, "share: input should be a valid number, found '\\$10'"),
        ({"share": True}, "share: .*, found true"),
        ({"share": [1]}, "share: .*, found a list"),
        ({"mode": "warn"}, "mode: input should be 'observe' or 'refuse', found 'warn'\n"),
        ({"mode": {"mvp": "obs"}}, r"mode\.mvp: input should be 'observe' or 'refuse', found 'obs'\n"),
        ({"mode": {"mvp": "observe", "prod": "refuse"}}, r"unknown key 'mode\.prod': .*'mvp' or 'mlvp'"),
        ({"part": {"color": "red"}}, r"unknown key 'part\.color' \(nearest: 'colour'\)"),
        ({"part": {}}, r"missing key 'part\.colour'"),
        ({"part": 7}, "part: input should be a valid string\n"),
    ],
)
def test_a_key_of_several_forms_is_named_by_the_file_and_with_its_value(raw, said):
    with pytest.raises(ConfigError, match=f"f: {said}"):
        files.parse(Formed, raw, where="f")


def test_the_value_is_not_told_where_a_text_is_expected():
    with pytest.raises(ConfigError, match=r"names\.0: input should be a valid string\n"):
        files.parse(Outer, {"number": 1, "names": [7]}, where="f")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("number: 99999999999999999999", "f: number: integer exceeds 64-bit range"),
        ("names: [a, !!set {b}]", r"f: names\.1: type is not JSON"),
        ("names: &own [*own]", "f:1: the alias .* contains itself"),
        ("? [1, 2]\n: 3\n", "f: value: dict key"),
    ],
)
def test_what_json_cannot_hold_is_named_by_its_place(text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        files.parse(Outer, files.parse_yaml(text, where="f"), where="f")
    assert caught.value.hint


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path):
    path = tmp_path / "gate.json"
    files.write_atomic(path, b"now")
    kept = [".gate.json.12345678x", ".gate.json.1234567G", "gate.json.12345678", ".other.json.12345678"]
    for name in (*kept, ".gate.json.0123abcd"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".gate.json.89abcdef").mkdir()
    (tmp_path / ".gate.json.89abcdef" / "part").write_bytes(b"half")
    folders.purge(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["gate.json", *kept])
    folders.purge(tmp_path / "none" / "gate.json")
    assert re.fullmatch(r"\.gate\.json\.[0-9a-f]{8}", files.aside_of(path).name)


def test_a_list_is_read_as_a_tuple():
    assert files.parse(Outer, {"number": 1, "names": ["a", "b"]}, where="f").names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", r"f:2: .*duplicate"),
        ("a: [1\n", "f:"),
        ("- 1\n", "expected a mapping"),
        ("", "found nothing"),
    ],
)
def test_yaml_that_is_not_a_mapping_of_different_keys_is_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        files.parse_yaml(text, where="f")


def test_a_file_is_replaced_whole_and_the_same_bytes_are_not_written_again(tmp_path):
    path = tmp_path / "deep" / "file"
    assert files.write_atomic(path, b"one")
    stamp = path.stat().st_ino
    assert not files.write_atomic(path, b"one")
    assert path.stat().st_ino == stamp
    assert files.write_atomic(path, b"two")
    assert path.read_bytes() == b"two" and [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, code):
    path = tmp_path / "file"
    files.write_atomic(path, b"old")

    def full(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnavailableError, match=r"cannot write .*file") as caught:
        files.write_atomic(path, b"new")
    assert caught.value.hint
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_that_is_missing_or_not_text_is_one_clear_error(tmp_path):
    with pytest.raises(NotFoundError, match="there is no file"):
        files.read_text(tmp_path / "none", hint="look elsewhere")
    (tmp_path / "binary").write_bytes(b"ab\xff")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 2\)"):
        files.read_text(tmp_path / "binary")


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert files.digest({"a": 1, "b": [2]}) == files.digest({"b": [2], "a": 1}) != files.digest({"a": 1})


def test_a_file_that_was_written_a_moment_ago_is_read_each_time(tmp_path):
    path, read = tmp_path / "f", []

    @files.until_changed
    def text_of(path):
        read.append(path)
        return path.read_text()

    path.write_text("one")
    status = path.stat()
    assert text_of(path) == "one"
    path.write_text("two")  # as long, and within the same tick of a coarse clock
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert text_of(path) == "two" and len(read) == 2


def test_an_old_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path, read = tmp_path / "f", []
    monkeypatch.setattr(files.reading, "YOUNG_NS", -1)

    @files.until_changed
    def text_of(path):
        read.append(path)
        return path.read_text()

    path.write_text("one")
    assert [text_of(path), text_of(path)] == ["one", "one"] and len(read) == 1
    path.write_text("three")
    assert [text_of(path), text_of(path)] == ["three", "three"] and len(read) == 2
    path.unlink()
    with pytest.raises(FileNotFoundError):
        text_of(path)


def test_threads_that_read_files_of_new_types_at_once_all_read_them():
    kinds = [dataclasses.make_dataclass(f"Kind{n}", [("a", int)]) for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda kind: files.parse(kind, {"a": 1}, where="x").a, kinds))
    assert read == [1] * 200
