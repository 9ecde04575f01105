"""Azure OpenAI: OpenAI's API behind deployments, an `api-version` and an `api-key`.

The addresses are those the openai SDK's `AzureOpenAI` builds (`openai/lib/azure.py`):
`{base}/openai/deployments/{deployment}/chat/completions?api-version=...`. A first chunk with empty `choices` and the
content filter's members are normal and go on as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from infermux.config.settings import ProviderSettings

from .openai import Dialect, OpenAI
from .transport import choose_transport, target_of


def make(settings: ProviderSettings, *, environ: Mapping[str, str]) -> OpenAI:
    """The factory of the type `azure_openai`. Raises ValueError without a base URL or an API version."""
    if not settings.base_url or not settings.azure_api_version:
        raise ValueError("azure_openai needs base_url and azure_api_version")
    base_url = settings.base_url.rstrip("/").removesuffix("/openai")
    dialect = azure_dialect(base_url, settings.azure_api_version, settings.azure_deployment)
    return OpenAI(settings, dialect, choose_transport(settings, base_url, environ))


def azure_dialect(base_url: str, api_version: str, deployment: str | None) -> Dialect:
    """Azure's addresses. `deployment` None: each model is served by the deployment of its name."""
    version = f"?api-version={quote(api_version, safe='')}"

    def target(model: str, path: str) -> bytes:
        name = quote(deployment or model, safe="")
        below, _, query = path.partition("?")
        return target_of(base_url, f"/openai/deployments/{name}{below}{version}{'&' if query else ''}{query}")

    return Dialect(
        base_url=base_url,
        target=target,
        models=target_of(base_url, f"/openai/models{version}"),
        credential=lambda key: (b"api-key", key.encode()),
    )
