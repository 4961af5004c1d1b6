import pytest
from weaviate_servers import open_store

from workbench.testing.contracts import DurableContract, governed

pytestmark = pytest.mark.usefixtures("weaviate")


class TestWeaviate(DurableContract):
    open_store = staticmethod(open_store)
    examples, histories, steps, attempted, kills = 10, 8, 20, 200, 2
    steady_words = False


class TestWeaviateGoverned(DurableContract):
    open_store = staticmethod(governed(open_store))
    examples, histories, steps, attempted, kills = 4, 3, 12, 100, 1
    steady_words = False
