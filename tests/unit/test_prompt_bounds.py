"""No template, whatever its values, renders without end or measure; within the bounds nothing changes."""

from __future__ import annotations

import time

import pytest

from workbench.errors import ConfigError
from workbench.prompts import sandbox
from workbench.prompts.prompt import Header, Input, compose, parse

TYPES = {"q": "string", "n": "number", "xs": "list"}
HEADER = Header(
    name="answer",
    owner="me",
    reason="first",
    inputs={name: Input(type=kind, data_class="public") for name, kind in TYPES.items()},  # type: ignore[arg-type]
)
NO_END = "{% for a in range(60) %}"
MACRO = "{% macro a(n) %}{% for x in range(n) %}.{% endfor %}{% endmacro %}"


def rendered(template, **values):
    prompt = parse(compose(HEADER, (("user", template),)), where="draft")
    return prompt.render(**{"q": "q", "n": 1, "xs": ["a", "b"]} | values).messages[0].content


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("{% for a in xs %}{% for b in xs %}{% endfor %}{% endfor %}", {"xs": [1] * 5_000}),
        ("{% for a in range(n) %}{% for b in range(n) %}{% endfor %}{% endfor %}", {"n": 90_000}),
        ("{% for a in q %}{% for b in q if b == 'y' %}{% endfor %}{% endfor %}", {"q": "x" * 5_000}),
        (
            MACRO + "{% for x in xs %}{{ a(90000) }}{% endfor %}",
            {"xs": [1] * 50},
        ),
        ("{% set ns = namespace(t='x') %}" + NO_END + "{% set ns.t = ns.t ~ ns.t %}{% endfor %}", {}),
        ("{% set ns = namespace(t='x') %}" + NO_END + "{% set ns.t = ns.t + ns.t %}{% endfor %}", {}),
        ("{% set ns = namespace(t=[1]) %}" + NO_END + "{% set ns.t = ns.t + ns.t %}{% endfor %}", {}),
        ("{% set ns = namespace(t=9) %}" + NO_END + "{% set ns.t = ns.t * ns.t %}{% endfor %}", {}),
        ("{{ xs | join(q) }}", {"xs": [1] * 20_000, "q": "x" * 20_000}),
        ("{{ xs | map('string') | join(q) }}", {"xs": [1] * 20_000, "q": "x" * 20_000}),
        ("{{ q.join(xs) }}", {"xs": ["1"] * 20_000, "q": "x" * 20_000}),
        ("{{ q | replace('x', q) }}", {"q": "x" * 20_000}),
        ("{{ q.replace('x', q) }}", {"q": "x" * 20_000}),
        ("{{ q | center(1000000000) }}", {}),
        ("{{ q.ljust(1000000000) }}", {}),
        ("{{ q.zfill(1000000000) }}", {}),
        ("{{ q | indent(1000000000) }}", {"q": "a\nb"}),
        ("{{ xs | slice(1000000000) | list }}", {}),
        ("{{ xs | batch(1000000000, 'x') | list }}", {}),
        ("{{ '%1000000000d' % 1 }}", {}),
        ("{{ '%*d' % (1000000000, 1) }}", {}),
        ("{{ '%1000000000d' | format(1) }}", {}),
        ("{{ '{:1000000000}'.format(1) }}", {}),
        ("{{ '{:{}}'.format(1, 1000000000) }}", {}),
    ],
)
def test_a_rendering_without_end_or_measure_is_refused_in_seconds(template, values):
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"more than 1,000,000|longer than|too large|a width of"):
        rendered(template, **values)
    assert time.process_time() - began < 5


def test_calls_of_macros_that_multiply_are_bounded(monkeypatch):
    """A macro calls ten of the next. The bound is lowered: a million calls take five seconds of CPU."""
    monkeypatch.setattr(sandbox, "MOST_STEPS", 50_000)
    macros = "".join(
        f"{{% macro m{n}() %}}{f'{{{{ m{n - 1}() }}}}' * 10 if n else 'x'}{{% endmacro %}}" for n in range(9)
    )
    with pytest.raises(ConfigError, match="more than 50,000 rounds"):
        rendered(macros + "{{ m8() }}")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% for x in xs %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{% endfor %}", "1/2False2/2True"),
        ("{% for x in xs %}{{ x }}{{ loop.revindex }}{% endfor %}", "a2b1"),
        ("{% for x in [] %}{{ x }}{% else %}none{% endfor %}", "none"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{{ q ~ 1 ~ xs }}", "q1['a', 'b']"),
        ("{{ 'a' ~ ('b' ~ 'c') | upper }}", "aBC"),
        ("{{ xs | join(', ') }}-{{ xs | join }}-{{ ', '.join(xs) }}", "a, b-ab-a, b"),
        ("{{ xs | map('upper') | join(',') }}", "A,B"),
        ("{{ 'a-a' | replace('a', 'b') }} {{ 'a-a'.replace('a', 'b', 1) }}", "b-b b-a"),
        ("{{ '%05.1f' | format(1.25) }} {{ '{:>3}'.format(1) }} {{ '%s' % 'x' }}", "001.2   1 x"),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{{ 3 + 4 }} {{ 7 % 4 }} {{ 2 ** 10 }} {{ 'ab' * 2 }}", "7 3 1024 abab"),
        ("{% for x in range(9000) %}{% endfor %}{{ (range(5) | list) | length }}", "5"),
    ],
)  # fmt: skip
def test_the_bounds_do_not_change_what_a_template_says(template, text):
    assert rendered(template) == text


def test_a_filter_that_draws_at_random_is_unknown():
    with pytest.raises(ConfigError, match="unknown filter 'random'"):
        rendered("{{ xs | random }}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_no_input(value):
    with pytest.raises(ConfigError, match=r"input 'n' is -?(nan|inf)"):
        rendered("{{ n }}", n=value)


@pytest.mark.parametrize(
    ("template", "values"), [("{{ q }}", {"q": "a \ud83d"}), ("{{ xs | join }}", {"xs": ["\udc00"]})]
)
def test_a_turn_with_half_of_a_surrogate_pair_is_refused(template, values):
    with pytest.raises(ConfigError, match="user turn: the text holds half of a surrogate"):
        rendered(template, **values)
