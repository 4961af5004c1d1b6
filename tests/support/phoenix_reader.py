"""Reads one trace back with Phoenix's own client, and prints its spans and OpenInference's names as JSON.

Run by test_phoenix.py with the interpreter of .venv-phoenix: URL, project, trace id.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from types import ModuleType

from openinference.semconv import trace as semconv

# The client is a package inside the server's, whose own import takes eleven seconds of a processor.
parent = ModuleType("phoenix")
parent.__path__ = list(find_spec("phoenix").submodule_search_locations)
sys.modules["phoenix"] = parent

from phoenix.client import Client  # noqa: E402

url, project, trace_id = sys.argv[1:4]
client = Client(base_url=url)
spans: list = []
for _ in range(100):
    spans = client.spans.get_spans(project_identifier=project, trace_ids=[trace_id])
    if any(span["parent_id"] is None for span in spans):
        break
    time.sleep(0.1)
names = [
    value
    for kind in vars(semconv).values()
    if isinstance(kind, type)
    for value in vars(kind).values()
    if isinstance(value, str) and "." in value
]
print(json.dumps({"spans": spans, "names": names}, default=str))
