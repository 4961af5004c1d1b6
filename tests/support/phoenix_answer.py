"""Answers one question of the use case `answers` from its tape, at a price, and exports it.

Run by test_phoenix.py in a copy of the repository; the argument is the price of a million tokens. Prints the
reply as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import workbench as wb
from workbench.models.prices import Price
from workbench.workspace.boundary import Boundary, recorded_tape

root, price = Path.cwd(), float(sys.argv[1])
card = dataclasses.replace(
    wb.connect("answers").model().card, price_per_million=Price(input_usd=price, output_usd=price)
)
boundary = Boundary(root, mode="replay", tape=recorded_tape(root, "answers"), cards=[card])
ws = wb.connect("answers", through=boundary)
memory = ws.memory()
memory.add(wb.load(memory.spec.source))


@wb.task
def answer(ws, case: wb.Question) -> wb.Answer:
    """Answer from the best passage, as the notebook does."""
    hits = ws.memory().search(case.question, k=5)
    return ws.model().chat(ws.prompt().render(question=case.question, passages=hits[:1]))


first = json.loads((root / "data/handbook/questions.jsonl").read_text(encoding="utf-8").splitlines()[0])
row = {"id": first["id"], "tenant": first["tenant"], "question": first["question"]}
(root / "one.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
batch = answer.map(ws.inputs("one.jsonl"))
assert not batch.broken, batch.broken
(record,) = [each for each in batch.attempts[0].records if each["operation"] == "chat"]
ws.close()
print(json.dumps(record))
