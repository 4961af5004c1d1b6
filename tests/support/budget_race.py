"""A race for one budget: threads of several processes, some of them killed, and what must hold after it.

`python budget_race.py STORE PASSWORD FIRST LAST` runs the schedules with these seeds and prints JSON lines.
STORE
is the path of a SQLite file or the address of a PostgreSQL database. The process has no threads and no
connection while it forks.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from workbench import _sync
from workbench.budgets import books
from workbench.budgets.postgres import PostgresBudgets
from workbench.budgets.queued import QueuedLedger
from workbench.budgets.sqlite import SqliteBudgets
from workbench.errors import BudgetExceededError, WorkbenchError
from workbench.ports.budget import Account, Amounts

PROCESSES, THREADS, CALLS = 4, 64, 2
LEASE_S = 1.5


def open_store(where: str, password: str, holder: str):
    if "://" in where:
        return PostgresBudgets(where, holder=holder, password=password)
    return SqliteBudgets(Path(where), holder=holder)


class Schedule:
    """What a seed decides: the needs of each call, the limit, who is killed and when."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.seed = seed
        self.needs = [
            [[rng.randint(1, 20) for _ in range(CALLS)] for _ in range(THREADS)] for _ in range(PROCESSES)
        ]
        total = sum(need for process in self.needs for thread in process for need in thread)
        #: A third of the budgets fit every call, though not all of them at once.
        self.fits = seed % 3 == 0
        self.limit = total if self.fits else int(total * rng.uniform(0.2, 0.9))
        self.killed = rng.sample(range(PROCESSES), rng.choice([1, 2]))
        self.after_s = rng.uniform(0.0, 0.25)
        self.account = Account(budget="race", key={"seed": str(seed)}, limits=(None, self.limit, None, None))


def racer(where: str, password: str, schedule: Schedule, number: int, start: float, told: int) -> None:
    """One process: every thread makes its calls, and tells what it is about to settle and what is settled."""
    ledger = QueuedLedger(lambda: open_store(where, password, f"{schedule.seed}:{number}"), lease_s=LEASE_S)

    def tell(**facts) -> None:
        os.write(told, json.dumps({"process": number, **facts}).encode() + b"\n")

    def thread(index: int) -> None:
        rng = random.Random(f"{schedule.seed}:{number}:{index}")
        time.sleep(max(start - time.monotonic(), 0))
        for need in schedule.needs[number][index]:
            try:
                held = _sync.run(ledger.reserve([schedule.account], Amounts(tokens=need), wait_s=60))
            except BudgetExceededError as error:
                tell(refused=need, spent=error.spent)
                continue
            except WorkbenchError as error:
                tell(error=str(error))
                continue
            time.sleep(rng.uniform(0, 0.01))
            spent = need if schedule.fits or rng.random() < 0.5 else rng.randint(0, need)
            tell(settling=spent)
            _sync.run(ledger.settle(held, Amounts(tokens=spent)))
            tell(settled=spent)

    threads = [threading.Thread(target=thread, args=(index,)) for index in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    ledger.close()


def run(where: str, password: str, seed: int) -> dict:
    """Run one schedule; return what was seen and what is wrong."""
    schedule, began = Schedule(seed), time.monotonic()
    start = began + 0.15
    reading, writing = os.pipe()
    children = []
    for number in range(PROCESSES):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(reading)
                racer(where, password, schedule, number, start, writing)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    os.close(writing)
    store = open_store(where, password, "judge")
    try:
        told, most = watched(store, schedule, children, reading, start)
        time.sleep(LEASE_S + 0.2)
        left = balance(store, schedule, sweep=True)
    finally:
        store.close()
    wrong = faults(schedule, told, most, left)
    return {"seed": seed, "wrong": wrong, "took_s": round(time.monotonic() - began, 2), "most": most}


def watched(store, schedule: Schedule, children: list[int], reading: int, start: float):
    """Kill who is to be killed, and look at the balance until all have ended."""
    os.set_blocking(reading, False)
    told, most, open_ended, kill_at = b"", 0, True, start + schedule.after_s
    while open_ended:
        if kill_at is not None and time.monotonic() >= kill_at:
            for number in schedule.killed:
                os.kill(children[number], signal.SIGKILL)
            kill_at = None
        seen = balance(store, schedule)
        most = max(most, seen.spent[1] + seen.reserved[1])
        try:
            while piece := os.read(reading, 1 << 16):
                told += piece
            open_ended = False
        except BlockingIOError:
            time.sleep(0.02)
    for child in children:
        os.waitpid(child, 0)
    os.close(reading)
    return [json.loads(line) for line in told.splitlines() if line.endswith(b"}")], most


def balance(store, schedule: Schedule, *, sweep: bool = False) -> books.AccountEntry:
    for _ in range(20):
        try:
            with store.transaction() as transaction:
                if sweep:
                    books.free_expired(transaction)
                return transaction.entries([schedule.account.id])[schedule.account.id]
        except books.InterruptedTransactionError:
            time.sleep(0.05)
    raise AssertionError("the ledger cannot be read")


def faults(schedule: Schedule, told: list[dict], most: int, left: books.AccountEntry) -> list[str]:
    """What the run must not have shown."""
    spent = left.spent[1]
    settled = sum(line.get("settled", 0) for line in told)
    settling = sum(line.get("settling", 0) for line in told)
    wrong = [f"{most} of {schedule.limit} were spent and reserved"] * (most > schedule.limit)
    wrong += [f"{spent} of {schedule.limit} were spent"] * (spent > schedule.limit)
    wrong += [f"{left.reserved[1]} are still reserved"] * any(left.reserved)
    if not settled <= spent <= settling:
        wrong.append(f"{spent} are spent, {settled} were settled and {settling} were about to be")
    refused = [line for line in told if "refused" in line]
    if schedule.fits and refused:
        wrong.append(f"{len(refused)} calls were refused though all of them fit")
    wrong += [
        f"refused {line['refused']} at {line['spent']}" for line in refused
        if line["spent"] + line["refused"] <= schedule.limit or line["spent"] > spent
    ]  # fmt: skip
    return wrong + [line["error"] for line in told if "error" in line]


if __name__ == "__main__":
    where, password, first, last = sys.argv[1:]
    for seed in range(int(first), int(last)):
        print(json.dumps(run(where, password, seed)), flush=True)
