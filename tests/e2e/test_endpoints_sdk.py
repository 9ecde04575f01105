"""What callers with the official openai SDK see at the endpoints besides chat, by both ways in."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import openai
import pytest
import trio

from tests.e2e._router import EITHER_WAY, HELLO, SAID, in_order, provider, refused_url, routing
from tests.mocks.openai_further import PNG, SPOKEN, form, vector
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("way", EITHER_WAY)]

EMBEDDER = "text-embedding-3-small"
MODELS = ["gpt-4o", EMBEDDER, "whisper-1", "tts-1", "gpt-image-1", "omni-moderation-latest", "reranker"]


def upstream_of_all(**more: Any) -> OpenAIUpstream:
    return OpenAIUpstream(models=MODELS, **more)


def of_all(name: str, upstream: OpenAIUpstream | str, **more: Any) -> dict[str, Any]:
    aliases = {"ears": "whisper-1", "vectors": EMBEDDER, "eyes": "gpt-image-1"}
    return provider(name, upstream, **{"models": MODELS, "model_aliases": aliases, **more})


async def test_embeddings_by_the_sdks_own_base64_and_as_numbers(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router, router.sdk() as sdk:
        packed = await sdk.embeddings.create(model="vectors", input=["a", "b"], dimensions=16)
        plain = await sdk.embeddings.create(model=EMBEDDER, input=["a", "b"], dimensions=16, encoding_format="float")
        for answer in (packed, plain):
            assert [row.embedding for row in answer.data] == [vector("a", 16), vector("b", 16)]
            assert answer.usage.prompt_tokens == 2
        assert [request.json["encoding_format"] for request in upstream.requests] == ["base64", "float"]
        assert upstream.requests[0].json["model"] == EMBEDDER
        raw = await sdk.embeddings.with_raw_response.create(model=EMBEDDER, input=[1, 2, 3])
        assert (raw.headers["x-infermux-provider"], raw.headers["x-infermux-completion-tokens"]) == ("one", "0")
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.embeddings.create(model=EMBEDDER, input="")
        assert (caught.value.code, caught.value.param) == ("invalid_request", "input")


async def test_embeddings_are_replaced_by_another_provider(way: str) -> None:
    async with (
        upstream_of_all() as upstream,
        routing(of_all("dead", refused_url()), of_all("good", upstream), way=way, routing=in_order()) as router,
        router.sdk() as sdk,
    ):
        raw = await sdk.embeddings.with_raw_response.create(model=EMBEDDER, input="a")
        assert (raw.headers["x-infermux-provider"], raw.headers["x-infermux-attempts"]) == ("good", "2")


async def test_legacy_completions_whole_and_streamed(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router, router.sdk() as sdk:
        whole = await sdk.completions.create(model="gpt-4o", prompt="Say")
        assert whole.choices[0].text == SAID
        stream = await sdk.completions.create(model="gpt-4o", prompt="Say", stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].text for chunk in chunks) == SAID
        assert all(chunk.usage is None for chunk in chunks)


async def test_moderations_need_no_model(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router, router.sdk() as sdk:
        assert (await sdk.moderations.create(input="harm")).results[0].flagged
        assert upstream.requests[0].json["model"] == "omni-moderation-latest"
        body = b'{ "input":\n["a"], "model" : "omni-moderation-latest"}'
        answer = await router.web.post("/v1/moderations", content=body)
        assert (answer.json()["id"], upstream.requests[1].body) == ("modr-mock", body)


async def test_rerank_passes_with_its_fields(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router:
        body = {"model": "reranker", "query": "q", "documents": ["a", "b"], "top_n": 2, "provider": {"only": ["one"]}}
        answer = await router.web.post("/v1/rerank", json=body)
        assert [row["index"] for row in answer.json()["results"]] == [0, 1]
        assert "provider" not in upstream.requests[0].json


async def test_images_are_made_whole_and_streamed(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router, router.sdk() as sdk:
        made = await sdk.images.generate(model="eyes", prompt="a house")
        assert made.data is not None
        assert base64.b64decode(made.data[0].b64_json or "") == PNG
        assert upstream.requests[0].json == {"model": "gpt-image-1", "prompt": "a house"}
        stream = await sdk.images.generate(model="eyes", prompt="a house", stream=True)
        assert [event.type async for event in stream] == ["image_generation.completed"]


async def test_an_image_is_edited_by_a_form(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router, router.sdk() as sdk:
        made = await sdk.images.edit(model="eyes", prompt="a door", image=("a.png", PNG, "image/png"))
        assert made.data is not None
        assert base64.b64decode(made.data[0].b64_json or "") == PNG
        assert form(upstream.requests[0])["model"] == b"gpt-image-1"


async def test_speech_comes_as_it_is_made(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router, router.sdk() as sdk:
        async with sdk.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="hi") as spoken:
            assert spoken.headers["content-type"] == "audio/mpeg"
            assert spoken.headers["x-infermux-provider"] == "one"
            assert b"".join([piece async for piece in spoken.iter_bytes()]) == SPOKEN
        assert upstream.requests[0].header("accept") == "application/octet-stream"


async def test_recordings_are_transcribed_whole_and_streamed(way: str) -> None:
    recording = random.Random(1).randbytes(300_000)
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router, router.sdk() as sdk:
        for model in ("ears", "whisper-1"):
            heard = await sdk.audio.transcriptions.create(model=model, file=("a.wav", recording))
            assert heard.text == "300000 bytes for whisper-1"
            assert form(upstream.requests[-1])["file"] == recording
        stream: Any = await sdk.audio.transcriptions.create(model="ears", file=("a.wav", recording), stream=True)
        assert [event.type async for event in stream] == ["transcript.text.delta", "transcript.text.done"]


def form_body(*parts: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A form with its parts in this order, and the headers that go with it."""
    pieces = [
        b'--cut\r\nContent-Disposition: form-data; name="%b"; filename="x"\r\n\r\n%b\r\n' % (name.encode(), value)
        if name == "file"
        else b'--cut\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)
        for name, value in parts
    ]
    return b"".join(pieces) + b"--cut--\r\n", {"content-type": "multipart/form-data; boundary=cut"}


async def in_pieces(body: bytes) -> AsyncGenerator[bytes]:
    for at in range(0, len(body), 100_000):
        yield body[at : at + 100_000]
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("size", [1000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_form_whose_model_comes_last_is_kept_until_then(way: str, size: int, chunked: bool) -> None:
    recording = random.Random(2).randbytes(size)
    body, headers = form_body(("file", recording), ("model", b"whisper-1"))
    async with (
        upstream_of_all() as upstream,
        routing(of_all("dead", refused_url()), of_all("one", upstream), way=way, routing=in_order()) as router,
    ):
        content = in_pieces(body) if chunked else body
        answer = await router.web.post("/v1/audio/transcriptions", content=content, headers=headers)
        assert (answer.status_code, answer.json()["text"]) == (200, f"{size} bytes for whisper-1")
        assert answer.headers["x-infermux-attempts"] == "2"
        assert upstream.requests[0].body == body
        assert answer.headers["x-infermux-completion-tokens"] == "4"


async def test_there_is_no_other_attempt_once_a_streamed_part_went_on(way: str) -> None:
    body, headers = form_body(("model", b"whisper-1"), ("file", b"x" * 3_000_000))
    async with (
        upstream_of_all() as broken,
        upstream_of_all() as other,
        routing(of_all("one", broken), of_all("two", other), way=way, routing=in_order()) as router,
    ):
        broken.further = Reply(status=500, body=b'{"error": {"message": "no"}}')
        answer = await router.web.post("/v1/audio/transcriptions", content=body, headers=headers)
        assert (answer.status_code, answer.headers["x-infermux-attempts"]) == (502, "1")
        assert other.requests == []


NOT_PASSED: list[tuple[str, dict[str, str], bytes, tuple[int, str]]] = [
    ("/v1/audio/transcriptions", {"content-type": "text/plain"}, b"x", (415, "unsupported_media_type")),
    ("/v1/audio/transcriptions", {"content-type": "multipart/form-data"}, b"x", (400, "invalid_request")),
    ("/v1/audio/transcriptions", form_body()[1], form_body(("file", b"x"))[0], (400, "invalid_request")),
    ("/v1/images/generations", {}, b'{"prompt": "x"}', (400, "invalid_request")),
    ("/v1/images/generations", {}, b'{"model": "nobody", "prompt": "x"}', (404, "model_not_found")),
    ("/v1/images/a..b", {}, b'{"model": "gpt-4o"}', (404, "not_found")),
    ("/v1/images/%2e%2e/models", {}, b'{"model": "gpt-4o"}', (404, "not_found")),
    ("/v1/moderations2", {}, b'{"model": "gpt-4o"}', (404, "not_found")),
]


async def test_what_cannot_be_passed_is_refused(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router:
        for path, headers, body, told in NOT_PASSED:
            url = httpx.URL(router.url).copy_with(raw_path=path.encode())
            answer = await router.web.post(url, content=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == told, path
        assert upstream.requests == []


async def test_a_body_over_the_limit_is_refused_in_the_middle_of_it(way: str) -> None:
    body, headers = form_body(("model", b"whisper-1"), ("file", b"x" * 3_000_000))
    async with (
        upstream_of_all() as upstream,
        routing(of_all("one", upstream), way=way, limits={"max_body_bytes": "1MiB"}) as router,
    ):
        answer = await router.web.post("/v1/audio/transcriptions", content=in_pieces(body), headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
        assert upstream.requests == []


async def test_speech_that_breaks_off_is_cut_without_a_word(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router:
        upstream.further = Reply(events=(b"sound", b"CUT"), content_type="audio/mpeg")
        received: list[bytes] = []

        async def listen() -> None:
            said = {"model": "tts-1", "voice": "a", "input": "b"}
            async with router.web.stream("POST", "/v1/audio/speech", json=said) as answer:
                pieces = answer.aiter_raw()
                while True:
                    received.append(await anext(pieces))

        with pytest.raises(httpx.RemoteProtocolError):
            await listen()
        assert received == [b"sound"]


async def test_methods_other_than_post_are_named(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router:
        for path in ("/v1/embeddings", "/v1/responses", "/v1/images/generations", "/v1/moderations"):
            answer = await router.web.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
        answer = await router.web.get("/v1/messages")
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert answer.json()["type"] == "error"


# Errors and disclosures in the words of the API that was called.


async def test_errors_are_told_in_the_callers_words(way: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router:
        said = {"model": "nobody", "max_tokens": 5, "messages": HELLO}
        answer = await router.web.post("/v1/messages", json=said, headers={"x-request-id": "mine"})
        error = answer.json()
        assert (answer.status_code, answer.headers["request-id"]) == (404, "mine")
        assert (error["type"], error["error"]["type"], error["request_id"]) == ("error", "not_found_error", "mine")
        answer = await router.web.post("/v1/responses", json={"model": "nobody", "input": "hi"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_broken_stream_is_told_in_the_callers_words(way: str, path: str) -> None:
    async with upstream_of_all() as upstream, routing(of_all("one", upstream), way=way) as router:
        upstream.script.append(Reply(cut_after=2))
        said = {"model": "gpt-4o", "max_tokens": 5, "messages": HELLO, "stream": True}
        text = (await router.web.post(path, json=said)).text
        last = text.rstrip("\n").rpartition("\n\n")[2]
        told = json.loads(last.rpartition("data: ")[2])
        if path == "/v1/messages":
            assert last.startswith("event: error\n")
            assert (told["type"], told["error"]["type"]) == ("error", "api_error")
            assert "message_stop" not in text
        else:
            assert told["error"]["code"] == "upstream_error"
            assert "[DONE]" not in text


async def test_a_broken_response_stream_goes_on_counting(way: str) -> None:
    delta = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":41}\n\n'
    async with upstream_of_all(responses=True) as upstream, routing(of_all("one", upstream), way=way) as router:
        upstream.script.append(Reply(events=(delta, b"CUT")))
        text = (await router.web.post("/v1/responses", json={"model": "gpt-4o", "input": "hi", "stream": True})).text
        told = json.loads(text.rpartition("data: ")[2])
        assert (told["type"], told["code"], told["sequence_number"]) == ("error", "upstream_error", 42)


async def test_betas_go_on_and_losses_are_told(way: str) -> None:
    async with upstream_of_all(responses=True) as upstream, routing(of_all("one", upstream), way=way) as router:
        said = {"model": "gpt-4o", "max_tokens": 5, "messages": HELLO, "top_k": 3}
        answer = await router.web.post("/v1/messages", json=said)
        assert (answer.status_code, answer.headers["x-infermux-dropped"]) == (200, "top_k")
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
        strict = await router.web.post("/v1/messages", json=said, headers={"X-Infermux-Strict": "true"})
        assert (strict.status_code, strict.json()["error"]["type"]) == (400, "invalid_request_error")
        assert "top_k" in strict.json()["error"]["message"]
        wrong = await router.web.post("/v1/messages", json=said, headers={"X-Infermux-Strict": "maybe"})
        assert wrong.status_code == 400
        counted = await router.web.post("/v1/messages/count_tokens", json={"model": "gpt-4o", "messages": HELLO})
        assert counted.headers["x-infermux-estimated"] == "true"
        assert counted.json()["input_tokens"] > 0
        beta = {"OpenAI-Beta": "assistants=v2", "anthropic-beta": "x"}
        await router.chat(headers=beta)
        assert upstream.chats[-1].header("openai-beta") == "assistants=v2"
        assert upstream.chats[-1].header("anthropic-beta") is None


async def test_a_form_goes_where_its_model_or_its_header_says_and_keeps_its_fields(way: str) -> None:
    sticky = {"strategy": "sticky", "sticky": {"key": "header:X-Session"}}
    async with (
        upstream_of_all() as one,
        upstream_of_all() as two,
        routing(of_all("one", one), of_all("two", two), way=way, routing=sticky) as router,
        router.sdk() as sdk,
    ):

        async def heard(model: str, session: str) -> str:
            raw = await sdk.audio.transcriptions.with_raw_response.create(
                model=model,
                file=("a.wav", b"RIFF"),
                extra_headers={"X-Session": session},
                extra_body={"provider": '{"only": ["one"]}'},
            )
            return raw.headers["x-infermux-provider"]

        assert await heard("two/whisper-1", "a") == "two"
        assert form(two.requests[0])["provider"] == b'{"only": ["one"]}'
        by_session = {session: {await heard("whisper-1", session) for _ in range(2)} for session in "ad"}
        assert by_session == {"a": {"two"}, "d": {"one"}}, "rendezvous hashing is the same everywhere"
