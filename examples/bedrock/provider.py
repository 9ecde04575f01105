"""Amazon Bedrock as a process of its own: the adapter that infermux has for it, served from outside of the router.

The region and the credentials are those of the environment, as the AWS SDKs find them. AWS_BEDROCK_ENDPOINT, where it
is set, takes the place of the region's address.
"""

import os

from infermux.config.settings import ProviderSettings
from infermux.providers.process import serve
from infermux.providers.registry import make_adapter

if __name__ == "__main__":
    declared = ProviderSettings(name="bedrock", type="bedrock", base_url=os.environ.get("AWS_BEDROCK_ENDPOINT"))
    serve(make_adapter(declared, environ=os.environ))
