"""The contract suites of memory stores; the test of a store subclasses one of the two.

    class TestMyStore(MemoryContract):
        open_store = staticmethod(functools.partial(MyStore, name="contract"))

`open_store(path)` returns a `ports.MemoryStore` named "contract", which is empty for an unused path. For a
store that outlives its process subclass `DurableContract`, which adds reopening, several processes and
killed writers. `governed(open_store)` opens the same store with every verb sent through the controls.
"""

from __future__ import annotations

from workbench.testing.governed_memory import governed
from workbench.testing.memory_access_contract import AccessContract
from workbench.testing.memory_condition_contract import ConditionContract
from workbench.testing.memory_durable_contract import DurableSentences
from workbench.testing.memory_finding_contract import FindingContract
from workbench.testing.memory_history_contract import HistoryContract
from workbench.testing.memory_retention_contract import RetentionContract
from workbench.testing.memory_version_contract import VersionContract

__all__ = ["DurableContract", "MemoryContract", "governed"]


class MemoryContract(
    FindingContract, AccessContract, ConditionContract, VersionContract, RetentionContract, HistoryContract
):
    """The promises of every store; subclass it and set `open_store`."""


class DurableContract(DurableSentences, MemoryContract):
    """The promises of a store that outlives its process; `open_store` must be picklable."""
