"""Providers that are processes of their own: `serve` and what it takes, for those who write one.

    from infermux.providers.process import Model, serve


    class Echo:
        models = [Model(id="echo")]

        def invoke(self, request):
            yield request.text


    serve(Echo())

The router's side of it is in the modules beside this one. The protocol: docs/provider-protocol.md.
"""

from __future__ import annotations

from .author import Done, Provider, ProviderError, Request
from .messages import Model
from .serving import serve

__all__ = ["Done", "Model", "Provider", "ProviderError", "Request", "serve"]
