"""The annotations that OpenAI's APIs have on the text of answers, for every dialect of that house.

Shapes: `openai.types.chat.chat_completion_message.AnnotationURLCitation` and
`openai.types.responses.response_output_text.AnnotationURLCitation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from .neutral import Citation
from .report import Loss


def read_span(fields: Mapping[str, object]) -> tuple[int, int] | None:
    """The piece of the text, end exclusive; None where none is told, or none that can be."""
    start, end = fields.get("start_index"), fields.get("end_index")
    if not isinstance(start, int) or not isinstance(end, int):
        return None
    return (start, end) if 0 <= start < end else None


def other_annotations(annotations: object) -> tuple[str, ...]:
    """The types of the annotations that are no pages of the web: files that only the provider has."""
    items = cast("list[object]", annotations) if isinstance(annotations, list) else []
    kinds = (cast("dict[str, object]", item).get("type") for item in items if isinstance(item, dict))
    return tuple(kind for kind in kinds if isinstance(kind, str) and kind != "url_citation")


def name_lost_citations(citations: Iterable[Citation], loss: Loss) -> None:
    """For the APIs whose annotations are pages of the web: other citations are lost, and of these what they quote."""
    for citation in citations:
        if citation.url is None or citation.unit is not None:
            loss.drop("citations")
        elif citation.cited_text:
            loss.drop("citations.cited_text")
