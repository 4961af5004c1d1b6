"""What a hostile kernel sends to the process that runs it: errors, progress and arguments of verbs."""

from __future__ import annotations

import base64
import io
import json
import types

import polars as pl
import pytest

from workbench.config.confinement import ExecutionSettings, check_execution
from workbench.errors import ConfigError
from workbench.notebooks import execution
from workbench.workspace import gateway_verbs

ESCAPE = "\x1b]0;owned\x07"


def test_no_part_of_a_cell_s_error_reaches_the_terminal_as_control_characters(tmp_path):
    output = tmp_path / "done.ipynb"
    output.write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    kernel = execution._Kernel(path=output, parameters={})
    for name in ("RefusedError", f"Odd{ESCAPE}"):
        error = types.SimpleNamespace(
            ename=name, evalue=f"no{ESCAPE}\n  -> hint{ESCAPE}", source=f"x = '{ESCAPE}'", cell_index=0
        )
        said = execution._failed(error, output, kernel)
        assert "hint" in str(said) and "x = " in said.message
        assert "\x1b" not in f"{said}{said.hint}" and "\x07" not in f"{said}{said.hint}"


@pytest.mark.parametrize("total", ["1e999", "null", "[]", '"x"', "99999999999999999999"])
def test_odd_progress_of_a_kernel_is_passed_over(total):
    bars = types.SimpleNamespace(update=lambda _: None, n=0, desc="")
    line = f'{{"what": "a", "done": 1, "total": {total}}}'
    found = execution._moved(lambda **_: bars, None, line)
    assert found is (bars if total.startswith("9") else None)


def test_a_frame_is_an_argument_by_the_values_of_its_columns():
    frame = pl.DataFrame(
        {"trace_id": ["a", None], "won": [True, None], "n": [1, 2], "x": [0.5, float("nan")]},
        schema_overrides={"n": pl.UInt8},
    )
    stated = json.loads(json.dumps(gateway_verbs.encoded_argument(frame)))
    found = gateway_verbs.decoded_argument(stated)
    assert found.equals(frame.cast({"n": pl.Int64}))
    days = pl.DataFrame({"day": ["2026-11-01"]}).select(pl.col("day").str.to_date())
    assert gateway_verbs.decoded_argument(gateway_verbs.encoded_argument(days))["day"].to_list() == [
        "2026-11-01"
    ]


def test_a_small_frame_that_would_fill_the_memory_of_a_gateway_is_refused():
    file = io.BytesIO()
    pl.DataFrame({"a": ["x" * 1_000] * 50_000}).write_ipc(file, compression="zstd")
    text = base64.b64encode(file.getvalue()).decode()
    assert len(text) < 200_000
    for key in ("$frame", "$lazy_frame", "$value"):
        with pytest.raises(ValueError, match="argument"):
            gateway_verbs.decoded_argument({"list": [{key: text}]})


@pytest.mark.parametrize(
    "columns",
    [
        [], {"a": []}, {"a": ["odd", []]}, {"a": ["integer", ["x"]]}, {"a": ["integer", [2**70]]},
        {"a": ["text", [[1]]]}, {"a": ["text", ["x"]], "b": ["text", []]},
    ],
)  # fmt: skip
def test_columns_of_another_form_are_refused(columns):
    with pytest.raises((ValueError, KeyError, TypeError)):
        gateway_verbs.decoded_argument({"$columns": columns})


@pytest.mark.parametrize("path", [".workbench/cache", ".git", ".dvc/cache", "./.dvc", "../x", "/etc", "."])
def test_a_kernel_is_given_no_state_of_the_machine(path):
    check_execution("jobs.a", ExecutionSettings(read=("data/tables", ".hidden")))
    with pytest.raises(ConfigError, match=r"jobs\.a\.execution\.read"):
        check_execution("jobs.a", ExecutionSettings(read=(path,)))
