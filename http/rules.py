"""What the configuration in force says to the front door, worked out once. A reload replaces all of it."""

from __future__ import annotations

import attrs

from infermux.config.settings import Config

from .access import HostRule, needs_host_rule


@attrs.frozen(kw_only=True)
class Rules:
    """`host_ruled`: inference is under the host rule too. `sticky_by`: what keeps a conversation on one provider."""

    config: Config
    host_rule: HostRule
    host_ruled: bool
    sticky_by: str | None

    @classmethod
    def of(cls, config: Config) -> Rules:
        routing = config.routing
        sticky = "sticky" in (routing.strategy, *(group.strategy for group in routing.groups))
        listens = [config.listen, *([config.management_listen] if config.management_listen else [])]
        return cls(
            config=config,
            host_rule=HostRule.made(config, listens),
            host_ruled=needs_host_rule(config),
            sticky_by=routing.sticky.key if sticky else None,
        )
