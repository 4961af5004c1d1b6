"""The order of the controls is stated by each of them, complete, and printed."""

import dataclasses
import importlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from calls import ask, chat

import workbench.controls
from workbench.controls.observe import Observe
from workbench.controls.position import OPERATIONS, Position
from workbench.controls.stack import POSITIONS, fold, ordered, table
from workbench.errors import ConfigError, RefusedError
from workbench.ports import Memory, Model
from workbench.records.log import Lines

FOLDER = Path(workbench.controls.__file__).parent
#: The one order, as the design has it, of the controls.
DESIGN = (
    "observe", "limits", "fallback", "policy", "access", "idempotence", "output", "privacy", "moderation",
    "cache", "replay", "retry", "rate_limit", "circuit_breaker", "budget",
)  # fmt: skip
BUILT = tuple(position.name for position in POSITIONS)
APPLIES = {
    operation: {position.name for position in POSITIONS if operation in position.operations}
    for operation in OPERATIONS
}


def operations(port, name, besides=()):
    return {f"{name}.{verb}" for verb in vars(port) if callable(getattr(port, verb)) and verb[0] != "_"} - {
        f"{name}.{verb}" for verb in besides
    }


def test_every_operation_of_every_port_has_its_row():
    model = operations(Model, "model", besides=("aclose",))
    assert model | operations(Memory, "memory") == OPERATIONS
    assert {"model.chat", "memory.search"} < OPERATIONS


def test_what_applies_to_what():
    def rows(control):
        return {operation for operation, applies in APPLIES.items() if control in applies}

    assert rows("observe") == OPERATIONS, "nothing crosses the boundary without a record"
    assert rows("policy") == OPERATIONS, "nothing crosses the boundary without a decision"
    assert rows("access") == operations(Memory, "memory"), "models have no access lists"
    assert rows("output") == {"model.chat", "model.respond"}, "only an answer has a form to fit"
    asked = {f"model.{verb}" for verb in ("chat", "respond", "embed", "moderate", "count")}
    assert rows("privacy") == asked, "a memory keeps what it is given, by its own access lists"
    assert rows("replay") == asked, "a memory's snapshot is its determinism"
    reads = {f"memory.{verb}" for verb in ("search", "count", "missing", "items", "versions", "stats")}
    assert rows("retry") == asked | reads, "no write"
    writes = operations(Memory, "memory") - reads - {"memory.stage"}
    assert rows("idempotence") == writes, "what is staged is no effect until it is published"
    written = {"model.chat", "model.respond"}
    assert rows("fallback") == {"memory.search"} | written, "a snapshot is old, other vectors do not fit"
    assert rows("moderation") == written, "only what a model writes is checked"
    assert rows("cache") == {"model.chat", "model.embed"}, "a response may refer to what the endpoint keeps"


def test_the_order_is_the_one_of_the_design_as_far_as_it_is_built():
    assert tuple(name for name in DESIGN if name in BUILT) == BUILT
    assert set(DESIGN) == set(BUILT)


def test_every_control_of_the_folder_states_its_position_under_its_own_name():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "stack", "position", "lanes"}
    assert files == set(BUILT)
    for position in POSITIONS:
        assert importlib.import_module(f"workbench.controls.{position.name}").POSITION is position


def test_the_order_does_not_depend_on_who_is_named_first():
    for seed in range(50):
        mixed = random.Random(seed).sample(POSITIONS, len(POSITIONS))
        assert ordered(mixed) == POSITIONS


def placed(name, **more):
    return Position(name=name, operations=OPERATIONS, **more)


def changed(name, **more):
    return [dataclasses.replace(p, **more) if p.name == name else p for p in POSITIONS]


@pytest.mark.parametrize(
    ("positions", "named"),
    [
        (changed("retry", before=("output",)), ("retry", "output", "contradict")),
        (changed("access", after=("budget",), before=("policy",)), ("access", "policy", "contradict")),
        ([placed("a", before=("b",)), placed("b", before=("a",))], ("a", "b", "contradict")),
        (changed("output", after=("acess",)), ("output", "acess", "nearest: 'access'")),
        ([*POSITIONS, placed("caching", after=("moderation",))], ("cache", "caching", "outer")),
    ],
)
def test_neighbours_that_state_no_order_are_an_error_that_names_both(positions, named):
    with pytest.raises(ConfigError) as caught:
        ordered(positions)
    assert all(word in caught.value.message for word in named)
    assert "after" in caught.value.hint or "POSITION" in caught.value.hint


@pytest.mark.parametrize("operation", ["chatt", "search"])
def test_an_operation_without_a_row_is_refused_by_name_and_recorded(tmp_path, operation):
    async def leaf(_call):
        raise AssertionError("nobody is asked")
        yield

    handler = fold({"observe": Observe(Lines(tmp_path / "calls.jsonl"))}, leaf)
    with pytest.raises(RefusedError, match=f"'model.{operation}'") as caught:
        ask(handler, dataclasses.replace(chat(), operation=operation))
    assert all(name in caught.value.hint for name in ("model.chat", "model.count", "model.embed"))
    assert b'"outcome":"refused"' in (tmp_path / "calls.jsonl").read_bytes()


def test_the_table_of_operations_and_controls_is_printed():
    done = subprocess.run(
        [sys.executable, "-m", "workbench.controls.stack"], capture_output=True, check=True, text=True
    )
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["operation", *BUILT] and done.stdout == table() and not done.stderr
    assert {row.split()[0]: row.count(" x") for row in rows} == {o: len(a) for o, a in APPLIES.items()}
