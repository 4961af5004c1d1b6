"""Validate answers of `/moderations`: one verdict for each text."""

from __future__ import annotations

from workbench.models.chat_format import read_object
from workbench.models.endpoint_errors import EndpointErrors
from workbench.types import JSON


def read_moderations(body: bytes, verdicts: int, errors: EndpointErrors) -> JSON:
    """Return an answer of `/moderations` with this number of verdicts; a well-formed one is unchanged.

    Raises NoAnswerError unless each verdict says whether its text is flagged, and the error that an error
    object states.
    """
    answer = read_object(body, "results", errors)
    results = answer["results"]
    if not isinstance(results, list) or not all(isinstance(each, dict) for each in results):
        raise errors.no_answer("a list of verdicts as results", body)
    if len(results) != verdicts:
        raise errors.no_answer(f"{verdicts} verdicts ({len(results)} came)", body)
    for position, each in enumerate(results):
        if type(each.get("flagged")) is not bool:
            raise errors.no_answer(f"true or false as results[{position}].flagged", body)
    return answer
