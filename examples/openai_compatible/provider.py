"""Any endpoint that speaks OpenAI's chat completions, as a process of its own. BASE_URL says where, API_KEY who.

What it answers goes on as it came; what it refuses goes back with its status, its `Retry-After` and its own words.
"""

import json
import os

import httpx

from infermux.providers.process import Model, ProviderError, serve


class Compatible:
    name = "openai-compatible"

    def __init__(self, base_url, key=None):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=600)

    async def models(self):
        answer = await self._asked("GET", "/models")
        return [Model(id=model["id"]) for model in answer.json()["data"]]

    async def invoke(self, request):
        if not request.stream:
            yield (await self._asked("POST", "/chat/completions", request.body)).json()
            return
        try:
            async with self._client.stream("POST", "/chat/completions", json=request.body) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise refused(answer)
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        yield json.loads(line[6:])
        except httpx.TransportError as error:
            raise failed(error) from error

    async def _asked(self, method, path, body=None):
        try:
            answer = await self._client.request(method, path, json=body)
        except httpx.TransportError as error:
            raise failed(error) from error
        if answer.is_error:
            raise refused(answer)
        return answer


def failed(error):
    """It was not reached, or broke off."""
    code = "connect_error" if isinstance(error, httpx.ConnectError) else "broken"
    return ProviderError(str(error) or type(error).__name__, code=code)


def refused(answer):
    """Its refusal, as the protocol has them."""
    try:
        body = answer.json()
        message = body["error"]["message"]
    except (ValueError, KeyError, TypeError):
        body, message = None, answer.text[:500]
    wait = answer.headers.get("retry-after", "")
    retry_after = float(wait) if wait.replace(".", "", 1).isdecimal() else None
    return ProviderError(message, status=answer.status_code, retry_after=retry_after, body=body)


if __name__ == "__main__":
    serve(Compatible(os.environ["BASE_URL"], os.environ.get("API_KEY")))
