"""The store for production: one memory in one multi-tenant collection of a Weaviate server."""

from workbench.memory.weaviate.connection import Address
from workbench.memory.weaviate.factory import open_store
from workbench.memory.weaviate.schema import IndexSettings
from workbench.memory.weaviate.store import WeaviateStore

__all__ = ["Address", "IndexSettings", "WeaviateStore", "open_store"]
