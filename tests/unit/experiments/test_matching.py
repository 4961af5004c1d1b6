"""Answers and accepted texts, compared as people read them. Own examples; each kind has ten or more."""

# ruff: noqa: RUF001  (look-alike characters are the subject)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.experiments.matching import equals, mentions, normalise

EMPHASIS = [
    ("The fee is **42 pounds** a year.", "42 pounds"),
    ("The fee is __42 pounds__ a year.", "42 pounds"),
    ("The fee is *42 pounds* a year.", "42 pounds"),
    ("The fee is _42 pounds_, as ever.", "42 pounds"),
    ("***42 pounds***!", "42 pounds"),
    ("Use `42 pounds` here", "42 pounds"),
    ("```\n42 pounds\n```", "42 pounds"),
    ("**Fee:**42 pounds", "42 pounds"),
    ("- 42 pounds\n- each year", "42 pounds"),
    ("## 42 pounds", "42 pounds"),
    ("> 42 pounds", "42 pounds"),
    ("| 42 pounds | a year |", "42 pounds"),
    ("[42 pounds](https://example.invalid/fees)", "42 pounds"),
    ("<b>42 pounds</b>", "42 pounds"),
    ("答え：**四十二ポンド**です", "四十二ポンド"),
]
QUOTES = [
    ("He said “noon”.", "noon"),
    ("Er sagte „noon“.", "noon"),
    ("Il a dit « noon ».", "noon"),
    ("Hun sagde »noon«", "noon"),
    ("‹noon›", "noon"),
    ("‘noon’", "noon"),
    ("‚noon‘", "noon"),
    ("「noon」", "noon"),
    ("『noon』", "noon"),
    ("＂noon＂", "noon"),
    ("says:“noon”", "noon"),
    ("the employee’s desk", "employee's desk"),
    ("the employee's desk", "employeeʼs desk"),
]
DASHES = [
    ("it opens at noon—not earlier", "noon"),
    ("opens at noon – every day", "noon"),
    ("from ten am–four pm", "ten am"),
    ("from ten am–four pm", "four pm"),
    ("Leeds–York line", "Leeds-York"),
    ("Leeds-York line", "Leeds–York"),
    ("Leeds‑York line", "Leeds-York"),
    ("pages 12–15", "12-15"),
    ("pages 12 – 15", "12-15"),
    ("pages 12—15", "12-15"),
    ("pages 12〜15", "12-15"),
    ("it was −7 outside", "-7"),
    ("it was –7 outside", "-7"),
    ("noon ― or later", "noon"),
]
FORMS = [
    ("１２：３０", "12:30"),
    ("ＡＢＣ", "abc"),
    ("（noon）", "noon"),
    ("noon！", "noon"),
    ("ｎｏｏｎ　ｏｒ　ｌａｔｅｒ", "noon or later"),
    ("42\u00a0pounds", "42 pounds"),
    ("42\u202fpounds", "42 pounds"),
    ("42\u2009pounds", "42 pounds"),
    ("employ\u00admees", "employmees"),
    ("no\u200bon", "noon"),
    ("\ufeffnoon", "noon"),
    ("\u2067noon\u2069", "noon"),
    ("①", "1"),
    ("㎏", "kg"),
    ("cafe\u0301", "café"),
    ("…noon…", "noon"),
    (".5 litres", "0.5 litres"),
]
UNSPACED = [
    ("年費是四十二英鎊。", "四十二英鎊"),
    ("年费是42英镑，每年支付", "42英镑"),
    ("会费为四十二英镑", "会费"),
    ("年会費は42ポンドです。", "42ポンド"),
    ("ねんかいひはよんじゅうにポンド", "よんじゅうにポンド"),
    ("ｶﾝﾊﾞﾝは赤い", "カンバン"),
    ("ค่าธรรมเนียมคือสี่สิบสองปอนด์", "สี่สิบสองปอนด์"),
    ("ค่าธรรมเนียม42ปอนด์ต่อปี", "42ปอนด์"),
    ("ຄ່າທຳນຽມແມ່ນສີ່ສິບສອງປອນ", "ສີ່ສິບສອງ"),
    ("ថ្លៃគឺសែសិបពីរផោន", "សែសិបពីរ"),
    ("အခကြေးငွေမှာ လေးဆယ့်နှစ်ပေါင်", "လေးဆယ့်နှစ်"),
    ("「東京」です", "東京"),
]
LETTERS = [
    ("İZMİR", "izmir"),
    ("izmir", "İZMİR"),
    ("IĞDIR", "ığdır"),
    ("Iğdır", "iğdir"),
    ("DİYARBAKIR", "diyarbakır"),
    ("Kırıkkale", "KIRIKKALE"),
    ("i̇stasyon", "istasyon"),
    ("ofﬁce", "office"),
    ("ﬂoor", "floor"),
    ("eﬀort", "effort"),
    ("baﬄe", "baffle"),
    ("cœur", "coeur"),
    ("ŒUVRE", "oeuvre"),
    ("encyclopædia", "encyclopaedia"),
    ("ĳs", "ijs"),
    ("ﬆone", "stone"),
    ("GROẞ", "gross"),
    ("Οδός", "ΟΔΌΣ"),
]


@pytest.mark.parametrize(
    ("text", "answer"), [*EMPHASIS, *QUOTES, *DASHES, *FORMS, *UNSPACED, *LETTERS], ids=lambda value: value
)
def test_a_right_answer_matches_whatever_its_form(text, answer):
    assert mentions(text, answer)
    assert equals(answer, answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("142 pounds", "42 pounds"),
        ("42 poundsworth", "42 pounds"),
        ("-7 degrees", "7 degrees"),
        ("–7 degrees", "7 degrees"),
        ("−7 degrees", "7 degrees"),
        ("-£7", "£7"),
        ("12–15 pounds", "15 pounds"),
        ("12–15 pounds", "12"),
        ("2026-11-29", "29"),
        ("10² metres", "102 metres"),
        ("1½ hours", "11/2 hours"),
        (".5 litres", "5 litres"),
        ("7%", "7"),
        ("C#", "C"),
        ("2**5", "25"),
        ("~~42 pounds~~", "42 pounds"),
        ("五十二英镑", "十二英镑"),
        ("二千英镑", "千英镑"),
        ("142英镑", "42英镑"),
        ("ป้า", "ปา"),
        ("well-known", "known"),
        ("", "noon"),
    ],
    ids=lambda value: value,
)
def test_a_wrong_answer_stays_wrong(text, answer):
    assert not mentions(text, answer)


def test_the_whole_answer_is_compared_in_both_readings_of_a_dash():
    assert equals("**Leeds – York**", "Leeds–York") and equals("„Leeds-York“.", "Leeds–York")
    assert not equals("Leeds–York line", "Leeds–York")
    assert normalise("  The **“Fee”**:\n42 pounds! ") == "the fee 42 pounds"


@given(st.text(max_size=40))
def test_any_text_matches_itself_and_has_one_form(text):
    assert equals(text, text)
    assert mentions(text, text) or not normalise(text)
    assert (
        mentions(f"before {text} after", text) or not normalise(text) or set(text) & set("-–—‒〜～*`[]|<>.")
    )


@pytest.mark.timeout(30)  # quadratic work would take minutes
@pytest.mark.parametrize(
    "text", ["[" * 50_000, "[a](" * 5_000, "一" * 50_000, "1 " * 50_000 + "-", "*" * 50_000]
)
def test_a_hostile_text_takes_no_longer_than_it_is(text):
    assert mentions(f"{text} noon", "noon") or text[0] == "["


SPACING = [
    ("18 %", "18%"),
    ("18%", "18 %"),
    ("18 ‰", "18‰"),
    ("18€", "18 €"),
    ("18 €", "18€"),
    ("It costs $18.", "18"),
    ("It costs $18.", "$18"),
    ("It costs $ 18.", "$18"),
    ("+5", "5"),
    ("about +5 degrees", "5"),
    ("1,000 kilometres", "1000"),
    ("1000 kilometres", "1,000"),
    ("1’250’000 francs", "1,250,000"),
    ("4,200.50 euros", "4200.50"),
    ("Answer:18", "18"),
    ("x=18", "18"),
    ("noon...perhaps", "noon"),
    ("noon…perhaps", "noon"),
    ("noon--not earlier", "noon"),
    ("18&nbsp;euros", "18 euros"),
    ("yes😀", "yes"),
    ("✓yes", "yes"),
    ("😀", "😀"),
    ("١٨ يورو", "18"),
    ("१८", "18"),
    ("۱۸", "18"),
]
FORMULAS = [
    (r"\(18\)", "18"),
    (r"\[18\]", "18"),
    ("$18$", "18"),
    (r"The answer is $\boxed{18}$.", "18"),
    (r"\boxed{18 euros}", "18 euros"),
    (r"18\%", "18%"),
    (r"\$18", "$18"),
    (r"snake\_case", "snake_case"),
    (r"R\&D", "R&D"),
    (r"$x=18$", "18"),
]
#: What only looks alike.
DISTINCT = [
    ("-$5", "5"),
    ("-5 %", "5%"),
    ("5 %", "5"),
    ("1,000", "1"),
    ("1,000", "000"),
    ("1,00", "100"),
    ("1,0000", "10000"),
    ("1,000.5", "1000"),
    ("12,345,67", "1234567"),
    (">=18", "18"),
    ("x==18", "18"),
    ("18:00", "18"),
    ("a+5", "5"),
    ("C++", "C"),
    ("1.000", "1000"),
]


@pytest.mark.parametrize(("text", "answer"), SPACING + FORMULAS)
def test_an_answer_with_other_spaces_separators_or_marks_is_found(text, answer):
    assert mentions(text, answer)


@pytest.mark.parametrize(("text", "answer"), DISTINCT)
def test_an_answer_that_only_looks_alike_is_not_found(text, answer):
    assert not mentions(text, answer)


@pytest.mark.parametrize("text", ["1,000", "$18", "18 %", "x=18", "😀", "١٨", "$a$", "+5", "a...b"])
def test_a_text_equals_itself_and_its_normal_form(text):
    assert equals(text, text) and mentions(text, text) and equals(normalise(text), text)
