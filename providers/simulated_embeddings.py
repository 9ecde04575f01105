"""Embeddings of a simulated provider: unit vectors made of the text, the same for the same text everywhere.

Shapes and limits are those of OpenAI's embeddings reference and `openai.types.CreateEmbeddingResponse`: `float` or
`base64` (little-endian float32), texts or tokens, one or many. Texts that share words have vectors that are alike.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Annotated, Final, Literal

import msgspec

from .interface import Usage
from .simulated_request import Refused, refusal

DIMENSIONS: Final = 64
_MOST_DIMENSIONS: Final = 4096

Token = Annotated[int, msgspec.Meta(ge=0)]


class EmbeddingRequest(msgspec.Struct):
    """What is acted on or checked; other fields are accepted unseen."""

    model: str
    input: str | list[str | Token | list[Token]]
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=_MOST_DIMENSIONS)] | None = None
    encoding_format: Literal["float", "base64"] | None = None

    @property
    def items(self) -> list[str | list[int]]:
        """What is embedded, each as a text or as tokens. Raises Refused for an empty item, or a mixture."""
        given = self.input
        items: list[str | list[int]]
        if isinstance(given, str):
            items = [given]
        elif all(isinstance(item, int) for item in given):
            items = [[item for item in given if isinstance(item, int)]]
        else:
            items = [item for item in given if not isinstance(item, int)]
            if len(items) < len(given):
                raise Refused("'input' mixes texts and tokens.", "input", "invalid_type")
        if not all(items):
            raise Refused("'input' cannot be an empty string or array.", "input", "invalid_value")
        return items


_requests: Final = msgspec.json.Decoder(EmbeddingRequest)


def read_embedding(body: bytes) -> EmbeddingRequest:
    """The request in `body`. Raises Refused."""
    try:
        return _requests.decode(body)
    except msgspec.ValidationError as error:
        raise refusal(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("We could not parse the JSON body of your request.", None) from None


def embeddings(request: EmbeddingRequest) -> tuple[bytes, Usage]:
    """The answer's body, and what it used: a token for four characters of text."""
    items = request.items
    size = request.dimensions or DIMENSIONS
    packed = request.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector(item, size), packed=packed)}
        for index, item in enumerate(items)
    ]
    usage = Usage(prompt_tokens=sum(len(item) // 4 + 1 if isinstance(item, str) else len(item) for item in items))
    counts = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": request.model, "usage": counts}), usage


def vector(item: str | list[int], size: int) -> list[float]:
    """A vector of length 1: the sum of one for each word, which is made of the word's hash. Exact in float32."""
    total = [0.0] * size
    for word in item.lower().split() or [item] if isinstance(item, str) else item:
        stream = hashlib.shake_128(str(word).encode("utf-8", "surrogatepass")).digest(size)
        for at in range(size):
            total[at] += stream[at] - 127.5
    length = math.sqrt(sum(value * value for value in total)) or 1.0
    return list(struct.unpack(f"<{size}f", struct.pack(f"<{size}f", *(value / length for value in total))))


def _encoded(values: list[float], *, packed: bool) -> list[float] | str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode() if packed else values
