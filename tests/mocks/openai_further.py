"""The mock upstream's endpoints besides chat: what they refuse, and what they answer.

Sources: OpenAI's API reference and the SDK's parameter types (`openai.types.completion_create_params` and so on).
Rerank is Jina's and Cohere's shape, which vLLM has as well. An answer is a `Reply`, played as scripted ones are.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

from tests.mocks.openai_answers import Reply
from tests.mocks.openai_rules import Json, Recorded, Refusal, decode

EMBEDDING = frozenset({"input", "model", "dimensions", "encoding_format", "user"})
COMPLETION = frozenset(
    {
        "model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
        "presence_penalty", "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
    }
)  # fmt: skip
MODERATION = frozenset({"input", "model"})
SPEECH = frozenset({"input", "model", "voice", "instructions", "response_format", "speed", "stream_format"})
IMAGE = frozenset(
    {
        "prompt", "model", "background", "moderation", "n", "output_compression", "output_format", "partial_images",
        "quality", "response_format", "size", "stream", "style", "user",
    }
)  # fmt: skip
RERANK = frozenset({"model", "query", "documents", "top_n", "return_documents"})
PNG = b"\x89PNG\r\n\x1a\n\x00\x00picture"
SPOKEN = bytes(range(256)) * 64
"""What `/audio/speech` answers: binary, and more than one chunk."""


def check_fields(request: Json, known: frozenset[str], required: tuple[str, ...]) -> None:
    for name in request:
        if name not in known:
            raise Refusal(400, f"Unrecognized request argument supplied: {name}", param=name, code="unknown_parameter")
    for name in required:
        if request.get(name) in (None, "", []):
            raise Refusal(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def vector(text: object, dimensions: int) -> list[float]:
    """The mock's embedding of `text`: exact in float32."""
    seed = sum(json.dumps(text).encode())
    return [((seed + 7 * at) % 64) / 64 - 0.5 for at in range(dimensions)]


def embeddings(request: Recorded) -> Reply:
    body = decode(request.body)
    check_fields(body, EMBEDDING, ("input", "model"))
    if not isinstance(body["input"], str | list):
        raise Refusal(400, "Invalid type for 'input'.", param="input", code="invalid_type")
    items = _items(body["input"])
    encoding, size = body.get("encoding_format", "float"), body.get("dimensions", 8)
    if encoding not in ("float", "base64"):
        raise Refusal(400, "Invalid value for 'encoding_format'.", param="encoding_format", code="invalid_value")
    data = [
        {"object": "embedding", "index": at, "embedding": _encoded(vector(item, size), encoding)}
        for at, item in enumerate(items)
    ]
    usage = {"prompt_tokens": len(items), "total_tokens": len(items)}
    return whole({"object": "list", "data": data, "model": body["model"], "usage": usage})


def _items(given: Any) -> list[Any]:
    return [given] if isinstance(given, str) or isinstance(given[0], int) else given


def _encoded(values: list[float], encoding: str) -> list[float] | str:
    if encoding == "float":
        return values
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def moderations(request: Recorded) -> Reply:
    body = decode(request.body)
    check_fields(body, MODERATION, ("input",))
    result = {"flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.9}}
    return whole({"id": "modr-mock", "model": body.get("model", "omni-moderation-latest"), "results": [result]})


def rerank(request: Recorded) -> Reply:
    body = decode(request.body)
    check_fields(body, RERANK, ("model", "query", "documents"))
    results = [{"index": at, "relevance_score": 1 / (at + 1)} for at in range(len(body["documents"]))]
    return whole({"model": body["model"], "results": results, "usage": {"total_tokens": 9}})


def images(request: Recorded) -> Reply:
    body = decode(request.body)
    check_fields(body, IMAGE, ("prompt",))
    if body.get("stream"):
        done = {"type": "image_generation.completed", "b64_json": base64.b64encode(PNG).decode()}
        return Reply(events=(b"event: image_generation.completed\ndata: " + json.dumps(done).encode() + b"\n\n",))
    return whole({"created": 1_700_000_000, "data": [{"b64_json": base64.b64encode(PNG).decode()}]})


def speech(request: Recorded) -> Reply:
    check_fields(decode(request.body), SPEECH, ("input", "model", "voice"))
    pieces = tuple(SPOKEN[at : at + 4096] for at in range(0, len(SPOKEN), 4096))
    return Reply(events=pieces, content_type="audio/mpeg")


def image_edit(request: Recorded) -> Reply:
    parts = form(request)
    if "image" not in parts and "image[]" not in parts:
        raise Refusal(400, "Missing required parameter: 'image'.", param="image")
    if "prompt" not in parts:
        raise Refusal(400, "Missing required parameter: 'prompt'.", param="prompt")
    picture = parts.get("image") or parts["image[]"]
    return whole({"created": 1_700_000_000, "data": [{"b64_json": base64.b64encode(picture).decode()}]})


def transcription(request: Recorded) -> Reply:
    parts = form(request)
    for name in ("file", "model"):
        if name not in parts:
            raise Refusal(400, f"Missing required parameter: '{name}'.", param=name)
    text = f"{len(parts['file'])} bytes for {parts['model'].decode()}"
    if parts.get("stream") == b"true":
        told = {"type": "transcript.text.delta", "delta": text}, {"type": "transcript.text.done", "text": text}
        return Reply(events=tuple(b"data: " + json.dumps(event).encode() + b"\n\n" for event in told))
    return whole({"text": text, "usage": {"type": "tokens", "input_tokens": 3, "output_tokens": 4, "total_tokens": 7}})


def form(request: Recorded) -> dict[str, bytes]:
    """The parts of a form by name. Raises `Refusal` for what is none."""
    kind = request.header("content-type") or ""
    if not kind.startswith("multipart/form-data"):
        raise Refusal(400, f"Unsupported content type: '{kind}'.")
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + request.body)
    if message.defects or not message.is_multipart():
        raise Refusal(400, "Could not parse multipart form")
    found: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str) or name in found:
            raise Refusal(400, "Could not parse multipart form")
        payload: Any = part.get_payload(decode=True)
        found[name] = payload
    return found


FURTHER: Mapping[str, Callable[[Recorded], Reply]] = {
    "/embeddings": embeddings,
    "/moderations": moderations,
    "/rerank": rerank,
    "/images/generations": images,
    "/images/edits": image_edit,
    "/audio/speech": speech,
    "/audio/transcriptions": transcription,
}


def model_of(request: Recorded) -> str | None:
    """The model a request of `FURTHER` names."""
    if (request.header("content-type") or "").startswith("multipart/"):
        model = form(request).get("model")
        return None if model is None else model.decode()
    model = decode(request.body).get("model")
    return model if isinstance(model, str) else None


def check_completion(body: Json) -> None:
    """Raise `Refusal` for a legacy completion the API does not take."""
    check_fields(body, COMPLETION, ("model", "prompt"))
    if body.get("stream_options") is not None and body.get("stream") is not True:
        raise Refusal(400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.")


def text_reply(reply: Reply, body: Json, id_: str) -> Reply:
    """A legacy completion in the place of a chat's."""
    base = {"id": id_, "object": "text_completion", "created": 1_700_000_000, "model": body["model"]}
    prompt, completion = reply.usage
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def choice(text: str, reason: str | None) -> Json:
        return {"text": text, "index": 0, "logprobs": None, "finish_reason": reason}

    if not body.get("stream"):
        return whole({**base, "choices": [choice("".join(reply.tokens), "stop")], "usage": usage})
    chunks: list[Json] = [{**base, "choices": [choice(token, None)]} for token in reply.tokens]
    chunks.append({**base, "choices": [choice("", "stop")]})
    options: Json = body.get("stream_options") or {}
    if options.get("include_usage"):
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({**base, "choices": [], "usage": usage})
    return Reply(events=(*(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"))


def whole(body: Json) -> Reply:
    return Reply(body=json.dumps(body).encode())
