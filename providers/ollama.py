"""Ollama: its OpenAI-compatible API at `/v1`, its models at `/api/tags`.

Source: https://github.com/ollama/ollama/blob/main/docs/openai.md and docs/api.md (list local models). No key is needed;
one that is set is sent as a bearer token, for an instance behind a proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from infermux.config.settings import ProviderSettings

from .openai import Dialect, OpenAI, bearer, targets_below
from .transport import choose_transport, target_of

DEFAULT_BASE_URL: Final = "http://localhost:11434"


def make(settings: ProviderSettings, *, environ: Mapping[str, str]) -> OpenAI:
    """The factory of the type `ollama`; its base URL may end in `/v1` or not."""
    base_url = (settings.base_url or DEFAULT_BASE_URL).rstrip("/").removesuffix("/v1")
    dialect = Dialect(
        base_url=base_url,
        target=targets_below(base_url, "/v1"),
        models=target_of(base_url, "/api/tags"),
        credential=bearer,
    )
    return OpenAI(settings, dialect, choose_transport(settings, base_url, environ))
