"""How many files and sockets this process may have open."""

from __future__ import annotations

import logging

log = logging.getLogger("infermux")


def raise_descriptor_limit() -> None:
    """As many open files as the system allows: each request has a socket on either side, and 1024 are soon used up."""
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, ValueError, OSError) as error:
        log.debug("the limit of open files stays as it is: %s", error)
