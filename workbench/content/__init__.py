"""Content: requests and answers of calls, encrypted under a key for each tenant and subject."""

from workbench.content.calls import CallContent
from workbench.content.keys import ContentKeys
from workbench.content.store import ContentStore, Entry, Sealed

__all__ = ["CallContent", "ContentKeys", "ContentStore", "Entry", "Sealed"]
