"""A greeting announces a name, and not the sentence that follows it."""

import pytest

from workbench.privacy.detection import PatternDetector


def persons(text):
    return [text[item.start : item.end] for item in PatternDetector().find(text) if item.kind == "person"]


@pytest.mark.parametrize(
    "text",
    [
        "Hey I attach what I have.", "Hi I would like to return it", "Hello, Can I add another helmet?",
        "Cheers Call me on Monday", "Thanks, Call us", "Hey, Messages of your list are odd",
        "Hello, Rucksack broken Please help", "Hey, Instead of the grain I got rice", "Hello Will you help?",
        "Hey, Something heavy must have hit it", "Hello, I picked the wrong one", "Regards,\nCall us",
    ],
)  # fmt: skip
def test_a_sentence_after_a_greeting_is_no_name(text):
    assert not persons(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Hi Xaviera, where is it?", "Xaviera"), ("Thanks, Quillon", "Quillon"),
        ("Dear Mark can you", "Mark"),
        ("Hello Maria can you", "Maria"), ("Regards,\nZebulonia Quist\nAcme", "Zebulonia Quist"),
        ("Dear Mr. Okonkwor wrote", "Okonkwor"), ("Regards, J. K. Rowling", "J. K. Rowling"),
    ],
)  # fmt: skip
def test_a_name_after_a_greeting_is_found(text, name):
    assert persons(text) == [name]
