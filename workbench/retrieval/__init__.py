"""From documents to passages: pages, chunks, memory specs, the handle and the window that notebooks hold."""

from workbench.retrieval.chunking import Chunking, chunks
from workbench.retrieval.handle import MemoryHandle
from workbench.retrieval.hits import Hits
from workbench.retrieval.pages import load
from workbench.retrieval.spec import MemorySpec, Retention, load_spec, read_spec
from workbench.retrieval.window import Window

__all__ = [
    "Chunking",
    "Hits",
    "MemoryHandle",
    "MemorySpec",
    "Retention",
    "Window",
    "chunks",
    "load",
    "load_spec",
    "read_spec",
]
