"""Content: requests and answers of calls, encrypted under a key for each tenant and subject."""

from workbench.content.calls import CallContent
from workbench.content.keys import ContentKeys
from workbench.content.store import ContentEntry, ContentStore, OpenedContent, Opening, unknown_content

__all__ = [
    "CallContent",
    "ContentEntry",
    "ContentKeys",
    "ContentStore",
    "OpenedContent",
    "Opening",
    "unknown_content",
]
