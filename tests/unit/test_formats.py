"""Each format gives its title, its headings, its tables as rows, and the reason why a file is unreadable."""

from __future__ import annotations

import io
import time
import tracemalloc
import zipfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_documents import HTML, made_docx, made_ipynb, made_pdf

from workbench.errors import ConfigError
from workbench.retrieval.formats import by_ending
from workbench.retrieval.formats import docx as docx_format
from workbench.retrieval.formats import pdf as pdf_format
from workbench.retrieval.formats.document import UnreadableError

GERMAN = "Der Mitarbeiter kann die Reisekosten innerhalb von dreißig Tagen zurückfordern."
POLISH = "Zażółć gęślą jaźń. Pracownik może zwrócić się o zwrot kosztów podróży służbowej."
RUSSIAN = "Сотрудник может вернуть расходы на поездку в течение тридцати дней."


def parsed(data, name):
    return by_ending.parse(data, name, where=name)


def text_of(data, name):
    (part,) = parsed(data, name).parts
    return part.text


def test_html_keeps_headings_lists_tables_and_code_and_drops_scripts_and_navigation():
    document = parsed(HTML, "a.html")
    assert document.title == "Travel & costs"
    assert document.parts[0].text == (
        "# Travel rules\n\nTaxis are paid.\nKeep the receipt.\n\n- one\n- two bold\n\n"
        "City | Limit\nLyon | 120 EUR\n\ndef f():\n    return 1\n\nThe end."
    )


def test_a_table_that_only_lays_out_a_page_is_read_as_its_content():
    page = b"<table><tr><td><h2>Left</h2><td><table><tr><th>a<td>b</table></table>"
    assert text_of(page, "a.htm") == "## Left\n\na | b"
    assert parsed(page, "a.htm").title == "Left"


def test_html_is_decoded_as_its_meta_element_states():
    page = '<meta http-equiv=Content-Type content="text/html; charset=koi8-r"><p>Москва'.encode("koi8-r")
    assert text_of(page, "a.html") == "Москва"


def test_html_of_any_depth_takes_bounded_time():
    with pytest.raises(UnreadableError, match="nested"):
        parsed(b"<div>" * 300_000 + b"text", "a.html")
    flat = b"<p>one<li>two<td>three" * 20_000 + b"<b></b>" * 10_000
    assert text_of(flat, "a.html").startswith("one\n")


@pytest.mark.parametrize(
    "opened",
    [
        '<div title="</div></div>">',
        "<!-- </div> --><div>",
        "<script>'</div></div>'</script><div>",
        "<div a='</div>' b></div x=\"</div>\"><div><div>",
    ],
)
def test_the_depth_of_html_counts_no_tags_in_values_comments_and_scripts(opened):
    with pytest.raises(UnreadableError, match="nested deeper"):
        parsed((opened * 501 + "text").encode(), "a.html")
    closed = opened.replace("<div", "<p").replace("</div", "</p")
    assert "text" in parsed((closed * 501 + "text").encode(), "a.html").parts[0].text


@pytest.mark.parametrize("attribute", ["a%d=1 ", "a%d ", "a%d='>' ", '"%d '])
def test_an_element_of_html_with_too_many_attributes_is_not_parsed(attribute):
    many = "".join(attribute % number for number in range(300_000))
    begun = time.process_time()
    with pytest.raises(UnreadableError, match="attributes"):
        parsed(f"<p>text<div {many}>".encode(), "a.html")
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "utf-8"), (GERMAN, "utf-8-sig"), (GERMAN, "utf-16"), (GERMAN, "utf-16-le"),
        (GERMAN, "utf-16-be"), (GERMAN, "utf-32"), (GERMAN, "latin-1"),
        ("Müller", "latin-1"), ("Naïve café, 5 €", "cp1252"),
        (POLISH, "cp1250"), (RUSSIAN, "cp1251"), ("日本語のテキストです。これは長い", "shift_jis"),
    ],
)  # fmt: skip
def test_a_text_is_read_in_its_encoding(text, encoding):
    assert text_of(text.encode(encoding), "a.txt") == text


def test_a_long_rule_takes_little_memory():
    tracemalloc.start()
    try:
        assert parsed(b"ab\n" + b"=" * 5_000_000, "a.rst").title == ""
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_restructured_text_has_the_title_that_is_underlined():
    assert parsed(b"======\nTravel\n======\n\nTaxis are paid.", "a.rst").title == "Travel"
    assert parsed(b"Taxis are paid.\n\nHotels too.", "a.txt").title == ""


@pytest.mark.parametrize(
    ("text", "title", "body"),
    [
        ("---\ntitle: Taxis\nlayout: wide\n---\n# Fares\nPaid.", "Taxis", "# Fares\nPaid."),
        ("# *Fares* ##\nPaid.", "Fares", "# *Fares* ##\nPaid."),
        ("```\n# code\n```\n\nFares\n=====\nPaid.", "Fares", "```\n# code\n```\n\nFares\n=====\nPaid."),
        ("---\n\nA rule on top.\n\n---\nPaid.", "", "---\n\nA rule on top.\n\n---\nPaid."),
        ("\ufeff# Fares\r\n\r\nPaid.", "Fares", "# Fares\n\nPaid."),
    ],
)
def test_front_matter_of_markdown_is_optional(text, title, body):
    document = parsed(text.encode(), "a.md")
    assert (document.title, document.parts[0].text) == (title, body)


def test_faulty_front_matter_names_its_line():
    with pytest.raises(ConfigError, match=r"a\.md:4: expected"):
        parsed(b"---\ntitle: x\naccess: [hr\n---\ntext", "a.md")


def test_each_page_of_a_pdf_keeps_its_number():
    document = parsed(made_pdf("Taxis are paid.\nKeep it.", "", "The end.", title="Travel"), "a.pdf")
    assert document.title == "Travel" and document.blank == (2,)
    assert [(part.page, part.text) for part in document.parts] == [
        (1, "Taxis are paid.\nKeep it."), (3, "The end."),
    ]  # fmt: skip
    assert parsed(made_pdf("x", title="Microsoft Word - Draft 3.doc"), "a.pdf").title == ""


def test_a_pdf_of_500_pages_is_read_and_one_with_more_than_the_bound_is_not(monkeypatch):
    data = made_pdf(*(f"Page {number}." for number in range(1, 501)))
    assert parsed(data, "a.pdf").parts[-1].text == "Page 500."
    monkeypatch.setattr(pdf_format, "MOST_PAGES", 499)
    with pytest.raises(UnreadableError, match="500 pages"):
        parsed(data, "a.pdf")


def test_a_pdf_page_of_too_many_operations_is_not_read(monkeypatch):
    monkeypatch.setattr(pdf_format, "_MOST_OPERATIONS", 50)
    assert len(parsed(made_pdf("One.", "Two."), "a.pdf").parts) == 2
    with pytest.raises(UnreadableError, match="too complex"):
        parsed(made_pdf("One.", "\n".join(f"Line {number}." for number in range(50))), "a.pdf")


def test_the_pages_of_a_pdf_have_a_bound_together(monkeypatch):
    data = made_pdf(*(f"Page {number}." for number in range(5)))
    assert len(parsed(data, "a.pdf").parts) == 5
    monkeypatch.setattr(pdf_format, "_MOST_CONTENT", 100)
    with pytest.raises(UnreadableError, match="too complex"):
        parsed(data, "a.pdf")


def test_docx_is_read_in_the_order_of_the_document():
    document = parsed(made_docx(), "a.docx")
    assert document.title == "Travel"
    assert document.parts[0].text == (
        "## Travel\n\nTaxis are paid.\n- Keep the receipt\n\nCity | Limit\nLyon | 120\n\nThe end."
    )
    assert parsed(made_docx(title="Rules of travel"), "a.docx").title == "Rules of travel"


def filled_docx(body):
    out, source = io.BytesIO(), zipfile.ZipFile(io.BytesIO(made_docx()))
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in source.namelist():
            text = f"<w:document {space}><w:body>{body}</w:body></w:document>"
            packed.writestr(name, text if name == "word/document.xml" else source.read(name))
    return out.getvalue()


def cell(text, properties=""):
    return f"<w:tc><w:tcPr>{properties}</w:tcPr><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>"


def test_a_merged_cell_of_a_docx_stands_once_in_each_of_its_rows_however_wide_it_says_it_is():
    wide, on = '<w:gridSpan w:val="50000000"/>', "<w:vMerge/>"
    rows = [[cell("a", on), cell("b", wide), cell("c")], [cell("", on), cell("d", wide), cell("e")]]
    table = "".join(f"<w:tr>{''.join(cells)}</w:tr>" for cells in rows)
    begun = time.process_time()
    document = parsed(filled_docx(f"<w:tbl>{table}</w:tbl>"), "a.docx")
    assert document.parts[0].text == "a | b | c\na | d | e" and time.process_time() - begun < 10


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<w:p/>" * 250_001, "paragraphs"),
        ("<w:p><w:rPr/></w:p>" * 700_000, "tags"),
        (" " * 61_000_000, "bytes"),
    ],
    ids=["parts", "tags", "bytes"],
)
def test_a_docx_of_a_few_packed_bytes_takes_bounded_time(body, said):
    data, begun = filled_docx(body), time.process_time()
    with pytest.raises(UnreadableError, match=said):
        parsed(data, "a.docx")
    assert len(data) < 1_000_000 and time.process_time() - begun < 10


def test_a_docx_that_unpacks_to_too_much_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(docx_format, "_MOST_UNPACKED", 1_000_000)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("word/document.xml", b" " * 2_000_000)
    with pytest.raises(UnreadableError, match="unpacks"):
        parsed(out.getvalue(), "a.docx")


@pytest.mark.parametrize("value", ["[],", '{"a": {}},', "1,"])
def test_a_notebook_of_millions_of_values_is_not_parsed(value):
    data, begun = f'{{"cells": [{value * 8_500_000}1]}}'.encode()[:49_000_000], time.process_time()
    with pytest.raises(UnreadableError, match="too complex"):
        parsed(data, "a.ipynb")
    assert time.process_time() - begun < 5


def test_a_notebook_gives_its_markdown_and_code_without_outputs():
    document = parsed(made_ipynb(), "a.ipynb")
    assert document.title == "Fares"
    assert document.parts[0].text == "# Fares\n\nWhat a taxi costs.\n\n```python\nfare = 12\n```"


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "a.md", "empty"),
        (b" \n\t", "a.txt", "text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "a.md", "encoding"),
        (bytes(range(1, 128)) * 20, "a.txt", "control"),
        (b"<script>only()</script>", "a.html", "text"),
        (made_pdf("", ""), "a.pdf", "text layer"),
        (made_pdf("secret", password="x"), "a.pdf", "encrypted"),
        (made_pdf("text")[:200], "a.pdf", "damaged"),
        (b"not a pdf", "a.pdf", "damaged"),
        (b"not a zip", "a.docx", "damaged"),
        (made_docx()[:2000], "a.docx", "damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 old", "a.docx", "older format"),
        (b"{\\rtf1}", "a.rtf", "not read"),
        (b'{"cells": 1}', "a.ipynb", "cells"),
        (b'{"cells"', "a.ipynb", "notebook"),
        (b'{"cells": []}', "a.ipynb", "text"),
    ],
)
def test_an_unreadable_file_has_a_reason(data, name, reason):
    with pytest.raises(UnreadableError, match=reason):
        parsed(data, name)


SEEDS = [
    HTML,
    made_pdf("Taxis are paid.", "Two"),
    made_docx(),
    made_ipynb(),
    b"---\ntitle: x\n---\nbody",
    b"# x",
]


@st.composite
def changed_bytes(draw):
    """A document's bytes with a piece replaced by others, or any bytes."""
    data = draw(st.sampled_from([*SEEDS, b""]))
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 40)))
    return data[:start] + draw(st.binary(max_size=60)) + data[end:]


@settings(deadline=None)
@given(data=changed_bytes(), ending=st.sampled_from([*by_ending.ENDINGS, ".doc", ".PDF"]))
@example(data=b"---\n: :\n---\n", ending=".md")
@example(data=b"---\na: &x [*x]\n---\n", ending=".md")
def test_any_bytes_are_a_document_or_have_a_reason(data, ending):
    try:
        document = parsed(data, f"a{ending}")
    except (UnreadableError, ConfigError):
        return
    assert document.parts and all(part.text.strip() for part in document.parts)
    "".join([document.title, *(part.text for part in document.parts)]).encode()
