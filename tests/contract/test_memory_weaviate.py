import pytest
from weaviate_servers import open_store

from workbench.testing.contracts import DurableContract, governed

pytestmark = pytest.mark.usefixtures("weaviate")


class TestWeaviate(DurableContract):
    open_store = staticmethod(open_store)
    examples, histories, steps, attempted, kills = 3, 2, 12, 200, 2


class TestWeaviateGoverned(DurableContract):
    open_store = staticmethod(governed(open_store))
    examples, histories, steps, attempted, kills = 1, 1, 8, 100, 1
