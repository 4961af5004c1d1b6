"""Tables as people have them: each format is read with the place of its rows, or is one clear error."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import io
import json
import os
import zipfile

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbooks import Day, workbook

from workbench.errors import ConfigError, NotFoundError
from workbench.files import tables, workbooks

ROWS = [{"id": "1", "text": "Größe, naïve"}, {"id": "2", "text": 'said "so"\nand left'}]


def written(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def parquet(*rows):
    buffer = io.BytesIO()
    pl.DataFrame(list(rows)).write_parquet(buffer)
    return buffer.getvalue()


CSV = 'id,text\n1,"Größe, naïve"\n2,"said ""so""\nand left"\n'
FORMATS = {
    "a.csv": CSV,
    "marked.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "windows.CSV": CSV.replace("\n", "\r\n").replace('so""\r\n', 'so""\n'),
    "semicolons.csv": 'id;text\n1;Größe, naïve\n2;"said ""so""\nand left"\n',
    "tabs.tsv": 'id\ttext\n1\tGröße, naïve\n2\t"said ""so""\nand left"\n',
    "tabs.txt": 'id\ttext\n1\tGröße, naïve\n2\t"said ""so""\nand left"\n',
    "bars.csv": 'id|text\n1|Größe, naïve\n2|"said ""so""\nand left"\n',
    "latin.csv": CSV.encode("latin-1"),
    "code-page.csv": CSV.encode("cp1252"),
    "utf-16.csv": CSV.encode("utf-16"),
    "utf-16-le.csv": CSV.encode("utf-16-le"),
    "utf-16-be.csv": CSV.encode("utf-16-be"),
    "utf-32.csv": CSV.encode("utf-32"),
    "gaps.csv": f"\n\n{CSV}\n,\n\n",
    "nameless.csv": 'id,text,,\n1,"Größe, naïve",,\n2,"said ""so""\nand left",,\n',
    "a.jsonl": "\n".join(map(json.dumps, ROWS)) + "\n",
    "a.ndjson": "\ufeff" + "\r\n\r\n".join(map(json.dumps, ROWS)),
    "a.json": json.dumps(ROWS, indent=1),
    "a.parquet": parquet(*ROWS),
    "a.xlsx": workbook(One=[["id", "text"], *([r["id"], r["text"]] for r in ROWS)]),
    "gaps.xlsx": workbook(One=[[], ["id", "text"], [], *([r["id"], r["text"]] for r in ROWS), [None, None]]),
}
PLACES = {"a.csv": (2, 3), "gaps.csv": (4, 5), "a.ndjson": (1, 3), "gaps.xlsx": (4, 5), "a.xlsx": (2, 3)}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows_and_their_places(tmp_path, name):
    made = tables.read(written(tmp_path, name, FORMATS[name]))
    assert [dict(row) for row in made.rows] == ROWS
    assert made.columns == ("id", "text") and made.frame.to_dicts() == ROWS
    if name in PLACES:
        assert made.numbers == PLACES[name]
    assert str(made.numbers[1]) in made.where(1) and name in made.where(1)


def test_a_format_with_types_keeps_them(tmp_path):
    row = {"n": 1, "x": 2.5, "ok": True, "day": dt.date(2025, 1, 1), "text": "a"}
    (kept,) = tables.read(written(tmp_path, "a.parquet", parquet(row))).rows
    assert kept == row
    given = {**row, "day": "2025-01-01", "list": ["a"], "none": None}
    made = tables.read(written(tmp_path, "a.jsonl", json.dumps(given)))
    assert made.rows == (given,) and made.frame.to_dicts() == [given]
    cells = [list(row), [1, 2.5, True, Day(45658), "a"], [2, 3, False, Day(45659), "b"]]
    first, second = tables.read(written(tmp_path, "a.xlsx", workbook(One=cells))).rows
    assert first == row and second == {"n": 2, "x": 3.0, "ok": False, "day": dt.date(2025, 1, 2), "text": "b"}
    assert type(first["n"]) is int


def test_a_number_among_texts_of_a_sheet_is_written_as_the_sheet_shows_it(tmp_path):
    cells = [["id"], ["a"], [7], [2.5]]
    made = tables.read(written(tmp_path, "a.xlsx", workbook(One=cells)))
    assert [row["id"] for row in made.rows] == ["a", "7", "2.5"]


def test_a_sheet_is_chosen_by_its_name(tmp_path):
    path = written(tmp_path, "a.xlsx", workbook(**{"Erste": [["a"], ["1"]], "Q & A": [["b"], ["2"]]}))
    assert tables.read(path).columns == ("a",)
    made = tables.read(path, sheet="Q & A")
    assert made.rows == ({"b": "2"},) and made.sheet == "Q & A"
    with pytest.raises(ConfigError, match=r"no sheet 'Q&A'.*'Q & A'"):
        tables.read(path, sheet="Q&A")


def test_values_of_csv_are_texts_to_the_letter(tmp_path):
    path = written(tmp_path, "a.csv", "n,day,text\n007,2025-01-01, a \n1.0,,\n")
    assert tables.read(path).rows == (
        {"n": "007", "day": "2025-01-01", "text": " a "},
        {"n": "1.0", "day": "", "text": ""},
    )


def test_objects_keep_exactly_their_own_keys(tmp_path):
    made = tables.read(written(tmp_path, "a.jsonl", '{"a": 1}\n{"b": [2]}\n'))
    assert made.rows == ({"a": 1}, {"b": [2]}) and made.columns == ("a", "b")
    assert made.frame.to_dicts() == [{"a": 1, "b": None}, {"a": None, "b": [2]}]


def test_a_frame_names_the_column_and_the_lines_of_two_types(tmp_path):
    made = tables.read(written(tmp_path, "a.jsonl", '{"a": "x"}\n{"a": null}\n{"a": ["x"]}\n'))
    with pytest.raises(ConfigError, match=r"a.jsonl:3: the column 'a' holds list here and str in line 1"):
        _ = made.frame
    made = tables.read(written(tmp_path, "a.jsonl", '{"a": 1}\n{"a": 2.5}\n'))
    assert made.frame["a"].to_list() == [1.0, 2.5]


def test_a_missing_column_names_the_nearest(tmp_path):
    made = tables.read(written(tmp_path, "a.csv", "question,answer\na,b\n"))
    made.check_columns(["answer"])
    with pytest.raises(ConfigError, match=r"no column 'qestion' \(nearest: 'question'"):
        made.check_columns(["qestion"])


def zipped(**parts):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


BAD = {
    # one file each: its name, its content, what is said
    "empty": ("a.csv", "", "is empty"),
    "blank": ("a.csv", "\n \n".replace(" ", ""), "is empty"),
    "header only": ("a.csv", "id,text\n", "header and no rows"),
    "header only, many delimiters": ("a.csv", "id,text;x\n", "may be the delimiter"),
    "a column twice": ("a.csv", "id,text,id\n1,2,3\n", r"a.csv:1: the columns 1 and 3 are both called 'id'"),
    "too few values": ("a.csv", 'id,text\n1,"a\nb"\n2\n', r"a.csv:4: the row has 1 of the 2 columns"),
    "too many values": ("a.csv", "id,text\n1,a\n2,b,c\n", r"a.csv:3: 3 values"),
    "a value without a column": ("a.csv", "id,text,\n1,a,\n2,b,c\n", r"a.csv:3: the value of column 3"),
    "an open quote": ("a.csv", 'id,text\n1,a\n2,"b\n3,c\n', r"a.csv:3: a value in quotes has no"),
    "a quote inside": ("a.csv", 'id,text\n1,"a"b\n', r"a.csv:2: "),
    "a huge value": ("a.csv", "id,text\n1," + "x" * 200_000 + "\n", r"a.csv:2: a value is longer"),
    "no names": ("a.csv", " , \n1,2\n", "a.csv:1: no column has a name"),
    "two delimiters": ("a.csv", "a,b;c\n1,2;3\n", "each of ',', ';' may be the delimiter"),
    "zero bytes": ("a.csv", b"id,text\n1,\0\0\n", "zero bytes"),
    "a control character": ("a.csv", "id,text\n1,a\n2,\x01\n", r"a.csv:3: the control character U\+0001"),
    "no encoding": ("a.csv", b"id,text\n1,\x81\x8d\x8f\n", "not UTF-8 text"),
    "half a pair": ("a.csv", b"\xff\xfe" + b"i\0d\0\n\0\x3d\xd8", "not utf-16 text"),
    "a PDF": ("a.csv", b"%PDF-1.7\n", "a PDF file"),
    "a workbook": ("a.csv", workbook(One=[["a"], ["1"]]), "a ZIP archive"),
    "Parquet": ("a.csv", parquet({"a": 1}), "a Parquet file"),
    "an image": ("a.tsv", b"\x89PNG\r\n\x1a\n\0\0", "a PNG image"),
    "an unknown ending": ("a.xls", b"x", r"the ending '\.xls'"),
    "no ending": ("table", b"x", "no ending"),
    "no JSON": ("a.jsonl", '{"a": 1}\n{"a": 1,\n', r"a.jsonl:2: not JSON"),
    "a list in a line": ("a.jsonl", '{"a": 1}\n[1]\n', r"a.jsonl:2: not a JSON object"),
    "a key twice": ("a.jsonl", '{"a": 1, "a": 2}\n', r"a.jsonl:1: the key 'a' is there twice"),
    "a long number": ("a.jsonl", '{"a": 1e400}\n', r"a.jsonl:1: a"),
    "deep": ("a.jsonl", '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}\n", r"a.jsonl:1: "),
    "JSON in Latin-1": ("a.jsonl", '{"a": "ü"}\n'.encode("latin-1"), "not UTF-8 text"),
    "no lines": ("a.jsonl", "\n\n", "is empty"),
    "objects without a key": ("a.jsonl", "{}\n", "no columns"),
    "a JSON object": ("a.json", '{"a": 1}', "not a list of JSON objects, but dict"),
    "a list of numbers": ("a.json", '[{"a": 1}, 2]', r"a.json, row 2: not a JSON object"),
    "an empty list": ("a.json", "[]", "is empty"),
    "an empty file of JSON": ("a.json", "", "is empty"),
    "cut Parquet": ("a.parquet", parquet({"a": 1})[:-9], "not a complete Parquet file"),
    "Parquet without rows": ("a.parquet", parquet({"a": 1})[:0], "not a complete Parquet file"),
    "text as Parquet": ("a.parquet", "id,text\n", "not a complete Parquet file"),
    "cut workbook": ("a.xlsx", workbook(One=[["a"], ["1"]])[:-90], "not a complete XLSX workbook"),
    "text as workbook": ("a.xlsx", "id,text\n", "not a complete XLSX workbook"),
    "another archive": ("a.xlsx", zipped(**{"word/document.xml": "<a/>"}), "not a complete XLSX workbook"),
    "no sheets": ("a.xlsx", zipped(**{"xl/workbook.xml": "<workbook/>"}), "has no sheet"),
    "an empty sheet": ("a.xlsx", workbook(One=[]), "is empty"),
    "a sheet with a header only": ("a.xlsx", workbook(One=[["a", "b"]]), "header and no rows"),
    "a sheet's column twice": ("a.xlsx", workbook(One=[[], ["a", "a"], ["1", "2"]]), "row 2: the columns"),
    "a sheet's value without a column": ("a.xlsx", workbook(One=[["a"], ["1", "2"]]), "row 2: the value of"),
    "an error cell": ("a.xlsx", workbook(One=[["a"], ["1"], ["#N/A"]]), "'One', cell A3 holds an error"),
    "a far cell": ("a.xlsx", workbook(One={"A1": "a", "XFD1048576": "b"}), "row 1048576 and column 16384"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_is_one_error_with_its_place(tmp_path, fault):
    name, data, said = BAD[fault]
    with pytest.raises(ConfigError, match=said) as raised:
        tables.read(written(tmp_path, name, data))
    assert name in raised.value.message and raised.value.hint and len(raised.value.message) < 600


def test_what_is_no_file_is_an_error(tmp_path):
    with pytest.raises(NotFoundError, match="no file"):
        tables.read(tmp_path / "none.csv")
    with pytest.raises(NotFoundError, match="no file"):
        tables.read(tmp_path / "none.jsonl")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    for name in ("folder.csv", "pipe.csv", "loop.csv", "\0.csv"):
        with pytest.raises(ConfigError, match="cannot read"):
            tables.read(tmp_path / name)


def test_every_bound_is_an_error_with_the_bound(tmp_path, monkeypatch):
    path = written(tmp_path, "a.csv", "a,b\n1,2\n3,4\n5,6\n")
    with pytest.raises(ConfigError, match="larger than 9 bytes"):
        tables.read(path, most_bytes=9)
    rows = {"a.csv": path.read_bytes(), "a.jsonl": '{"a": 1}\n' * 3, "a.parquet": parquet(*[{"a": 1}] * 3)}
    rows |= {"a.json": "[" + ",".join(['{"a": 1}'] * 3) + "]", "a.xlsx": workbook(One=[["a"], *[["1"]] * 3])}
    for name, data in rows.items():
        assert len(tables.read(written(tmp_path, name, data), most_rows=3)) == 3
        with pytest.raises(ConfigError, match="rows: more than 2"):
            tables.read(tmp_path / name, most_rows=2)
    monkeypatch.setattr(tables, "MOST_COLUMNS", 1)
    with pytest.raises(ConfigError, match="columns: more than 1"):
        tables.read(path)
    monkeypatch.setattr(workbooks, "MOST_UNPACKED", 100)
    with pytest.raises(ConfigError, match="unpacked: more than 100"):
        tables.read(tmp_path / "a.xlsx")


def shared(text, cells):
    """A workbook whose cells refer to one shared text."""
    out, source = io.BytesIO(), zipfile.ZipFile(io.BytesIO(workbook(One=[["a"]])))
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    rows = "".join(f'<row><c t="s"><v>{min(n, 1)}</v></c></row>' for n in range(cells + 1))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in source.namelist():
            sheet = f"<worksheet {space}><sheetData>{rows}</sheetData></worksheet>"
            packed.writestr(name, sheet if "worksheets/" in name else source.read(name))
        texts = f"<sst {space}><si><t>a</t></si><si><t>{text}</t></si></sst>"
        packed.writestr("xl/sharedStrings.xml", texts)
    return out.getvalue()


def test_the_shared_texts_of_a_workbook_have_a_bound_together(tmp_path, monkeypatch):
    made = tables.read(written(tmp_path, "a.xlsx", shared("x" * 50, 100)))
    assert made.rows == ({"a": "x" * 50},) * 100
    monkeypatch.setattr(workbooks, "MOST_SHARED", 100 * 50)
    with pytest.raises(ConfigError, match="more than 5000 bytes of text together"):
        tables.read(tmp_path / "a.xlsx")
    monkeypatch.undo()
    bomb = written(tmp_path, "bomb.xlsx", shared("x" * 1_000_000, 10_000))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(ConfigError, match="text together"):
        tables.read(bomb)


def test_a_stated_delimiter_and_encoding_replace_the_search(tmp_path):
    path = written(tmp_path, "a.csv", "a,b;c\n1,2;é\n".encode("cp850"))
    made = tables.read(path, delimiter=";", encoding="cp850")
    assert made.rows == ({"a,b": "1,2", "c": "é"},) and (made.delimiter, made.encoding) == (";", "cp850")
    with pytest.raises(ConfigError, match="no encoding 'klingon'"):
        tables.read(path, encoding="klingon")


def test_a_list_of_texts_needs_no_delimiter(tmp_path):
    made = tables.read(written(tmp_path, "a.csv", 'question\nWho?\n"Who, and why?"\n'))
    assert made.rows == ({"question": "Who?"}, {"question": "Who, and why?"})


@pytest.mark.parametrize("place", [44, 188, 300])
def test_damage_inside_a_parquet_file_ends_no_process(tmp_path, place):
    data = bytearray(FORMATS["a.parquet"])
    data[place] = 127
    with contextlib.suppress(ConfigError):  # a changed letter of a text is still a table
        assert len(tables.read(written(tmp_path, "a.parquet", bytes(data)))) == 2


def test_a_file_that_ends_its_reader_is_an_error(tmp_path, monkeypatch):
    path = written(tmp_path, "a.parquet", FORMATS["a.parquet"])
    monkeypatch.setattr(tables, "_PROBE", "import os; os.abort()")
    with pytest.raises(ConfigError, match=r"a\.parquet is not a complete Parquet file: it is damaged"):
        tables.read(path)
    monkeypatch.setattr(tables, "_PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(tables, "_PROBE_SECONDS", 0.2)
    with pytest.raises(ConfigError, match="not read in"):
        tables.read(path)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    ["a,b", "a;b|c\td", 'say "so"', "two\nlines", "two\r\nlines", " padded ", ""]
)


@given(
    st.lists(st.tuples(TEXTS.filter(bool), TEXTS), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_csv_gives_back_what_pythons_writer_wrote(tmp_path_factory, rows, delimiter, encoding, end):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("left", "right"), *rows])
    path = written(tmp_path_factory.getbasetemp(), "given.csv", text.getvalue().encode(encoding))
    made = tables.read(path)
    assert [tuple(row.values()) for row in made.rows] == rows and made.delimiter == delimiter


#: Without Parquet: some changed bytes inside of it make polars end the process.
STARTS = [
    data if isinstance(data, bytes) else data.encode()
    for name, data in FORMATS.items()
    if name != "a.parquet"
]


def overwritten(start, place, data):
    return start[:place] + data + start[place + len(data) :]


@given(
    st.binary(max_size=200)
    | st.builds(overwritten, st.sampled_from(STARTS), st.integers(0, 3_000), st.binary(max_size=8)),
    st.sampled_from([*tables.SUFFIXES, ".xls", ""]),
)
def test_any_bytes_under_any_ending_are_a_table_or_an_error(tmp_path_factory, data, suffix):
    path = written(tmp_path_factory.getbasetemp(), f"given{suffix}", data)
    made = None
    with contextlib.suppress(ConfigError):
        made = tables.read(path)
    if made is None:
        return
    assert len(made.rows) == len(made.numbers) > 0 and made.columns
    assert all(set(row) <= set(made.columns) for row in made.rows)
    with contextlib.suppress(ConfigError):
        assert made.frame.height == len(made)
