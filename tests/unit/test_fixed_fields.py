"""Fields of the protocol are read when they hold what is no name, and long numbers in JSON always are."""

import json

import pytest

from workbench.wire.contents import contents, with_contents

MAIL, CARD = "ann.lee@acme.com", 4111111111111111


@pytest.mark.parametrize("name", ["id", "type", "data", "signature", "file_id", "detail"])
@pytest.mark.parametrize("value", [MAIL, "Ann Lee", str(CARD), "+491701234567", "a b " * 1_000])
def test_content_in_a_field_of_the_protocol_is_read_and_replaced(name, value):
    request = {"messages": [{"role": "user", name: value}]}
    assert value in contents(request)
    changed = with_contents(request, lambda text: text.replace(value, "-"))
    assert changed["messages"][0] == {"role": "user", name: "-"}


@pytest.mark.parametrize(
    "value", ["user", "call_1-a.b", "image/png", "iVBORw0KGgo+/==" * 400, "2024-06-01-preview", "v1:2", ""]
)
def test_names_and_media_are_not_read(value):
    assert not contents({"parts": [{"type": value, "data": value}]})


def test_long_numbers_of_json_within_a_text_are_read_as_they_are_replaced():
    arguments = json.dumps({"said": 'a "word"', "card": CARD, "all": [CARD, 7]})
    request = {"messages": [{"arguments": arguments}]}
    assert contents(request).count(str(CARD)) == 2
    changed = with_contents(request, lambda text: text.replace(str(CARD), "[CARD]"))
    assert json.loads(changed["messages"][0]["arguments"]) == {
        "said": 'a "word"', "card": "[CARD]", "all": ["[CARD]", 7],
    }  # fmt: skip
