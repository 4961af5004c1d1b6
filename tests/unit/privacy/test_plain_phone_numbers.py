"""International numbers that are accepted by their length alone are numbers that the parser accepts."""

from __future__ import annotations

import random

import phonenumbers
from phonenumbers import ValidationResult

from workbench.privacy import numbers


def accepted_by_the_parser(written: str) -> bool:
    try:
        number = phonenumbers.parse(written)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE


def test_a_number_of_a_plain_length_is_one_that_the_parser_accepts():
    rng, codes = random.Random(20), [*map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE), "0", "210"]
    plain = 0
    for code in codes * 10:
        digits = code + "".join(rng.choice("0001234567890") for _ in range(rng.randint(6, 13)))
        if numbers._has_length(digits):
            plain += 1
            assert accepted_by_the_parser(f"+{digits}"), digits
        if not accepted_by_the_parser(f"+{digits}"):
            assert not numbers._is_international(f"+{digits}"), digits
    assert plain > 400
    assert numbers._is_international("+44 20 7946 0958") and not numbers._is_international("+44 20 7946 09")
