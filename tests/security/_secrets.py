"""Every secret that the campaign puts somewhere, by the place it is put into."""

from __future__ import annotations

from typing import Final

from tests.security._canaries import Canary, canary

PLAIN: Final = "{head}-{tail}"

API_KEY: Final = canary("a provider's api_key, from the environment")
FROM_FILE: Final = canary("a provider's api_keys, from a file")
IN_CONFIG: Final = canary("a provider's api_keys, written in the file")
HEADER: Final = canary("a provider's header X-Secret-Token")
EXTRA: Final = canary("a value of extra_body")
PROXY: Final = canary("the password of a proxy", template=PLAIN)
CLAUDE: Final = canary("the key of an anthropic provider")
AZURE: Final = canary("the key of an azure_openai provider")
AWS_ID: Final = canary("the AWS access key's id", template="AKIA{head}{tail}")
AWS_KEY: Final = canary("the AWS secret access key", template="{head}/+{tail}")
AWS_TOKEN: Final = canary("the AWS session token")
STATIC: Final = canary("the key of auth.mode static_key")
TOKEN: Final = canary("the management token", may_be_in=("browser: session storage", "browser: headers it sent"))
LEDGER: Final = canary("the password of the ledger's URL", template=PLAIN)
COLLECTOR: Final = canary("a header for the collector of traces", template=PLAIN)
MALFORMED: Final = canary("a malformed header for the collector", template=PLAIN)
BYSTANDER: Final = canary("a variable of the environment that nobody asked for")
CREDENTIAL: Final = canary("a caller's own credential, passed through")
WRONG_KEY: Final = canary("a wrong key that a caller sent")
WRONG_TOKEN: Final = canary("a wrong management token")
QUERY: Final = canary("a key in the query of a caller's URL")
BASIC: Final = canary("a caller's Authorization: Basic")
COOKIE: Final = canary("a caller's cookie")
# A simulated provider repeats it to who asked.
PROMPT: Final = canary("a prompt", may_be_in=("answer:", "intruder: inference", "command: infer"))
ANSWER: Final = canary("an answer", may_be_in=("answer:",))

ALL: Final[tuple[Canary, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Canary))

ENVIRON: Final = {
    "PROVIDER_KEY": API_KEY.value,
    "CLAUDE_KEY": CLAUDE.value,
    "AZURE_KEY": AZURE.value,
    "STATIC_KEY": STATIC.value,
    "INFERMUX_MANAGEMENT_TOKEN": TOKEN.value,
    "UNRELATED": BYSTANDER.value,
    "OTEL_EXPORTER_OTLP_HEADERS": f"x-collector-key={COLLECTOR.value},{MALFORMED.value}",
    "OTEL_BSP_SCHEDULE_DELAY": "100",  # milliseconds
}
