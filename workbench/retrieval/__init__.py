"""Retrieval: pages, chunks, memory specs, and the memory handle of notebooks."""

from workbench.retrieval.chunking import Chunking, chunks
from workbench.retrieval.documents import load
from workbench.retrieval.handle import MemoryHandle
from workbench.retrieval.hits import Hits
from workbench.retrieval.spec import MemorySpec, Retention, load_spec, read_spec

__all__ = [
    "Chunking",
    "Hits",
    "MemoryHandle",
    "MemorySpec",
    "Retention",
    "chunks",
    "load",
    "load_spec",
    "read_spec",
]
