"""Cohen's kappa: the numbers of statsmodels, and the tables for which it is not defined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.experiments.agreement import cohens_kappa, cross_table


@st.composite
def tables(draw):
    size = draw(st.integers(2, 5))
    counts = draw(st.lists(st.integers(0, 40), min_size=size * size, max_size=size * size))
    return np.array(counts).reshape(size, size)


def is_defined(table):
    n = table.sum()
    return n > 0 and table.sum(axis=0) @ table.sum(axis=1) < n * n


@given(tables())
def test_kappa_and_its_interval_are_those_of_statsmodels(table):
    found = cohens_kappa(table)
    if not is_defined(table):
        assert found.value is None and found.interval is None and found.n == table.sum()
        return
    from statsmodels.stats.inter_rater import cohens_kappa as reference

    expected = reference(table)
    ends = np.clip([expected.kappa_low, expected.kappa_upp], -1, 1)
    if expected.var_kappa < 1e-12:  # its root has no nine exact digits, and is NaN below zero
        ends = np.clip([expected.kappa] * 2, -1, 1)
        assert (found.interval.low, found.interval.high) == pytest.approx(ends, abs=1e-5)
    else:
        assert (found.interval.low, found.interval.high) == pytest.approx(ends, abs=1e-9)
    assert found.value == pytest.approx(expected.kappa, abs=1e-9)
    assert (found.n, found.agreed) == (table.sum(), np.trace(table))


@pytest.mark.parametrize("n", [1, 20])
def test_raters_of_one_category_alone_have_no_kappa(n):
    found = cohens_kappa(cross_table([("good", "good")] * n, ("good", "bad")))
    assert (found.value, found.interval, found.n, found.agreed) == (None, None, n, n)


def test_raters_without_a_common_thing_have_no_kappa():
    found = cohens_kappa(cross_table([], ("good", "bad")))
    assert (found.value, found.interval, found.n, found.agreed) == (None, None, 0, 0)


def test_perfect_agreement_is_1_and_perfect_disagreement_of_two_halves_is_minus_1():
    alike = cohens_kappa([[7, 0], [0, 5]])
    assert (alike.value, alike.interval.low, alike.interval.high) == (1.0, 1.0, 1.0)
    assert cohens_kappa([[0, 6], [6, 0]]).value == -1.0


def test_a_published_table_gives_its_published_kappa():
    """Fleiss, Levin & Paik, Statistical Methods for Rates and Proportions, table 18.1: kappa is 0.676."""
    found = cohens_kappa([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    assert found.value == pytest.approx(0.676, abs=5e-4)
    assert (found.interval.high - found.value) / 1.959964 == pytest.approx(0.088, abs=5e-4)


def test_the_first_rater_is_in_the_rows():
    table = cross_table([("a", "b"), ("a", "b"), ("b", "b")], ("a", "b"))
    assert table.tolist() == [[0, 2], [0, 1]]
