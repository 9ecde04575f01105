"""A provider that says what it was told, word by word. Run it by a configuration: see infermux.yml beside it."""

import trio

from infermux.providers.process import Done, Model, serve


class Echo:
    models = (Model(id="echo", name="Echo", context_window=8192, images=False, tools=False),)

    async def invoke(self, request):
        words = request.text.split()
        for word in words:
            yield f"{word} "
            await trio.sleep(0.01)
        yield Done(prompt_tokens=len(words), completion_tokens=len(words))


if __name__ == "__main__":
    serve(Echo())
