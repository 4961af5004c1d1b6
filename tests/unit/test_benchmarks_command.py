"""`python -m benchmarks`: help and wrong names measure nothing."""

from __future__ import annotations

import pytest

from benchmarks import __main__ as benchmarks


@pytest.fixture
def measured(monkeypatch):
    """The tables that were measured, in order; each has one row."""
    found = []

    def table(name):
        def rows():
            found.append(name)
            yield "a row", "1 ms", "<= 2 ms"

        return rows

    monkeypatch.setattr(benchmarks, "PARTS", {name: table(name) for name in benchmarks.PARTS})
    return found


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["-h"], 0), (["memmory"], 2), (["--wrote"], 2), (["memory", "x"], 2)],
)
def test_help_and_wrong_arguments_measure_nothing(measured, monkeypatch, capsys, arguments, code):
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit) as caught:
        benchmarks.main()
    said = "".join(capsys.readouterr())
    assert caught.value.code == code and measured == [] and "usage:" in said


@pytest.mark.parametrize(
    ("arguments", "tables"), [([], None), (["memory"], ["memory"]), (["--flat", "boundary"], ["boundary"])]
)
def test_all_tables_or_the_named_ones_are_measured(measured, monkeypatch, capsys, arguments, tables):
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    benchmarks.main()
    assert measured == (tables or list(benchmarks.PARTS))
    assert capsys.readouterr().out.count("| a row | 1 ms | <= 2 ms |") == len(measured)
