"""From documents to passages: pages, chunks, memory specs, and the handle that notebooks hold."""

from workbench.retrieval.chunking import Chunking, chunks
from workbench.retrieval.handle import MemoryHandle
from workbench.retrieval.hits import Hits
from workbench.retrieval.pages import load
from workbench.retrieval.spec import MemorySpec, load_spec, read_spec

__all__ = ["Chunking", "Hits", "MemoryHandle", "MemorySpec", "chunks", "load", "load_spec", "read_spec"]
