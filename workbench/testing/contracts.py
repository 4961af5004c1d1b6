"""What every memory store promises, sentence by sentence; a new store subclasses one of the two.

    class TestMyStore(MemoryContract):
        open_store = staticmethod(functools.partial(MyStore, name="contract"))

`open_store(path)` gives a `ports.MemoryStore` whose name is "contract", empty for a path not used
before. A store that outlives its process subclasses `DurableContract`, which adds the sentences on
reopening, on several processes and on writers killed. `governed(open_store)` is the same store with
every verb sent through the stack.
"""

from __future__ import annotations

from workbench.testing.governed_memory import governed
from workbench.testing.memory_access_contract import AccessContract
from workbench.testing.memory_durable_contract import DurableSentences
from workbench.testing.memory_finding_contract import FindingContract
from workbench.testing.memory_history_contract import HistoryContract
from workbench.testing.memory_retention_contract import RetentionContract
from workbench.testing.memory_version_contract import VersionContract

__all__ = ["DurableContract", "MemoryContract", "governed"]


class MemoryContract(FindingContract, AccessContract, VersionContract, RetentionContract, HistoryContract):
    """The promises of every store. Subclass it and give `open_store`."""


class DurableContract(DurableSentences, MemoryContract):
    """And those of a store that outlives its process; `open_store` must be picklable."""
