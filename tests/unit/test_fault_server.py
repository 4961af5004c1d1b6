"""The fault server's plan and command; its faults are tested where calls meet them."""

import random
from collections import Counter

import pytest

from workbench.errors import ConfigError
from workbench.testing import fault_server
from workbench.testing.fault_plan import FAULTS, Latency, Plan


def test_rates_are_drawn_by_seed_and_number():
    rates = {"500": 0.3, "hang": 0.05}
    plan, same, other = Plan(rates, seed=1), Plan(rates, seed=1), Plan(rates, seed=2)
    drawn = [plan.fault(number) for number in range(4000)]
    assert drawn == [same.fault(number) for number in range(4000)]
    assert drawn != [other.fault(number) for number in range(4000)]
    counts = Counter(drawn)
    assert set(counts) == {"ok", "500", "hang"}
    assert 1080 < counts["500"] < 1320
    assert 140 < counts["hang"] < 260


def test_a_list_is_used_in_order_and_then_answers_are_right():
    plan = Plan(["429", "ok", "503"])
    assert [plan.fault(number) for number in range(5)] == ["429", "ok", "503", "ok", "ok"]


@pytest.mark.parametrize("faults", [["hangs"], {"399": 0.1}, {"600": 0.1}])
def test_an_unknown_fault_names_the_nearest(faults):
    with pytest.raises(ConfigError, match=r"no fault '(hangs|399|600)' \(.+\)") as caught:
        Plan(faults)
    assert "fault_server --help" in caught.value.hint


@pytest.mark.parametrize("rates", [{"500": 0.7, "hang": 0.4}, {"500": -0.1}])
def test_rates_add_up_to_at_most_one(rates):
    with pytest.raises(ConfigError, match="at most 1"):
        Plan(rates)


@pytest.mark.parametrize(
    ("text", "mean"),
    [
        ("0.02", 0.02), (0.02, 0.02), ("uniform:0.01,0.03", 0.02), ("exponential:0.02", 0.02),
        ("normal:0.02,0.001", 0.02), ("lognormal:0.02,0.1", 0.02), ("exponential:0", 0.0),
    ],
)  # fmt: skip
def test_latencies_follow_their_distribution(text, mean):
    latency, source = Latency(text), random.Random(1)
    drawn = [latency.draw(source) for _ in range(4000)]
    assert min(drawn) >= 0
    assert sum(drawn) / len(drawn) == pytest.approx(mean, rel=0.05)


@pytest.mark.parametrize("text", ["", "fast", "-1", "uniform:1", "lognormal:1,2,3", "gamma:1", "normal:1,x"])
def test_a_latency_that_is_none_is_an_error(text):
    with pytest.raises(ConfigError, match="not a distribution"):
        Latency(text)


def test_the_help_lists_every_fault(capsys):
    with pytest.raises(SystemExit) as ended:
        fault_server.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in FAULTS)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--fault", "hangs=1"], "no fault"), (["--fault", "500=x"], "float"), (["--latency", "x"], "latency")],
)
def test_the_command_explains_a_wrong_argument(arguments, word, capsys):
    with pytest.raises(SystemExit) as ended:
        fault_server.main(arguments)
    assert ended.value.code == 2
    assert word in capsys.readouterr().err
