"""Who a request is from, by its head: what its key says, and what its headers say where those are believed."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

import msgspec

from infermux.actors.identity import NOBODY, Identity
from infermux.actors.key_table import Known
from infermux.actors.keys import Keys
from infermux.actors.messages import Priority
from infermux.config.settings import AuthMode, Config
from infermux.errors import InvalidRequest, KeysUnavailable, Unauthorized
from infermux.keys import OWN_NAME
from infermux.secret import Secret

from .access import check_key, given_key
from .exchange import Head

CALLER: Final = b"x-infermux-caller"
TAGS: Final = b"x-infermux-tags"
PRIORITY: Final = b"x-infermux-priority"
_SAID: Final = frozenset({CALLER, TAGS, PRIORITY})
LONGEST_CALLER: Final = 128
MOST_TAGS: Final = 16
LONGEST_TAGS: Final = 1024  # bytes of the header

_PRIORITIES: Final = {priority.name.lower().encode(): priority for priority in Priority}
_PRIORITY_WORDS: Final = "interactive, default or batch"
_CREDENTIAL: Final = re.compile(rb"[\x21-\x7e]{1,8192}")
_CALLER: Final = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_TAG: Final = re.compile(
    r"([A-Za-z0-9._-]{1,64})=([\x21-\x2b\x2d-\x7e](?:[\x20-\x2b\x2d-\x7e]{0,126}[\x21-\x2b\x2d-\x7e])?)"
)


class Admitted(msgspec.Struct, frozen=True):
    """Who may come in, and as whom.

    `key` is the key of `auth.mode: keys`; `lent` the caller's own credential for a provider, which
    `auth.mode: passthrough` passes on (an empty one: none was sent), None in every other mode.
    """

    who: Identity = NOBODY
    priority: Priority = Priority.DEFAULT
    key: Known | None = None
    lent: Secret | None = None


class Checked(msgspec.Struct, frozen=True):
    """What a head with a key was found to be. It is that still while `config` is in force, `mark` is that of the keys,
    and it is not yet `until`, in seconds since 1970; None: for ever.
    """

    config: Config
    mark: object
    until: float | None
    found: Admitted


_ANYBODY: Final = Admitted()
# Members of an enum are looked up in Python code, and these at every request.
_KEYS: Final = AuthMode.KEYS
_OPEN: Final = AuthMode.OPEN


def admitted(head: Head, config: Config, keys: Keys | None) -> Admitted:
    """What the head says of who asks. Raises Unauthorized, KeysUnavailable, and InvalidRequest for a bad header.

    A key has a class of priority: the header may put a request behind others, never before those of its class.
    """
    auth = config.auth
    lent = None
    mode = auth.mode
    if mode is _KEYS:
        return _with_key(head, config, keys)
    if mode is _OPEN:
        if head.is_plain or head.lacks(_SAID):
            return _ANYBODY
    elif mode is AuthMode.STATIC_KEY:
        if auth.key is not None:
            check_key(head, auth.key)
    else:
        lent = _lent(head)
    return Admitted(identity_of(head), priority_of(head), None, lent)


def _with_key(head: Head, config: Config, keys: Keys | None) -> Admitted:
    """By `auth.mode: keys`: looked up once for a head, while no key changes."""
    if keys is None:
        raise KeysUnavailable("this router has no database of keys; set ledger.url", retry_after=60)
    checked: Checked | None = head.checked
    if checked is not None and checked.mark is keys.table.mark and checked.config is config:
        until = checked.until
        if until is None or keys.wall() < until:
            return checked.found
    mark = keys.table.mark
    key = keys.find(given_key(head))
    if head.is_plain or head.lacks(_SAID):
        found = Admitted(key.who, key.priority, key)
    else:
        found = Admitted(identity_of(head, key), priority_of(head, key), key)
    # A secret that was rotated is good for a while, and is not told from the new one here: it is looked up each time.
    head.checked = None if key.stored.old_digest is not None else Checked(config, mark, key.stored.expires_at, found)
    return found


def _lent(head: Head) -> Secret:
    """The caller's credential for a provider, empty where it sent none. Raises Unauthorized for what is no header."""
    given = given_key(head) or b""
    if given and not _CREDENTIAL.fullmatch(given):
        raise Unauthorized("the credential that was sent cannot be passed on: it must be printable ASCII")
    return Secret(given.decode("ascii"))


def identity_of(head: Head, key: Known | None = None) -> Identity:
    """Who asks. A key names its caller itself, unless it is one that may name others. Raises InvalidRequest."""
    caller, tags = head.get(CALLER), head.get(TAGS)
    if key is not None and not key.stored.allows.names_callers:
        caller = None
    if caller is None and tags is None:
        return NOBODY if key is None else key.who
    name = "" if key is None else key.stored.name
    return Identity(
        caller=name if caller is None else _caller(caller),
        key="" if key is None else key.stored.id,
        tags={} if tags is None else _tags(tags),
    )


def priority_of(head: Head, key: Known | None = None) -> Priority:
    """The class a request waits in. Raises InvalidRequest."""
    best = Priority.DEFAULT if key is None else key.priority
    given = head.get(PRIORITY)
    if given is None:
        return best
    priority = _PRIORITIES.get(given.strip().lower())
    if priority is None:
        raise InvalidRequest(f"X-Infermux-Priority must be {_PRIORITY_WORDS}", param="X-Infermux-Priority")
    return priority if key is None else max(priority, best)


def _caller(given: bytes) -> str:
    given = given.strip()
    if len(given) > LONGEST_CALLER or not _CALLER.fullmatch(given):
        raise InvalidRequest(
            f"X-Infermux-Caller must be a name of 1 to {LONGEST_CALLER} printable ASCII characters",
            param="X-Infermux-Caller",
        )
    name = given.decode("ascii")
    if name == OWN_NAME:
        raise InvalidRequest(
            f"X-Infermux-Caller must not be {OWN_NAME!r}: so the router's own health probes are called",
            param="X-Infermux-Caller",
        )
    return name


def _tags(given: bytes) -> dict[str, str]:
    """`a=b,c=d`; blanks around each count for nothing."""
    tags: dict[str, str] = {}
    for part in given.decode("latin-1").split(",") if len(given) <= LONGEST_TAGS else ("",):
        found = _TAG.fullmatch(part.strip())
        if found is None or found[1] in tags or len(tags) == MOST_TAGS:
            raise InvalidRequest(
                f"X-Infermux-Tags must be up to {MOST_TAGS} different tags like team=search,env=prod "
                f"(names of letters, digits and . _ -), in at most {LONGEST_TAGS} bytes",
                param="X-Infermux-Tags",
            )
        tags[found[1]] = found[2]
    return tags


def caller_affinity(head: Head, who: Identity) -> bytes:
    """What tells callers apart: who they are, else a hash of the key they sent, else their address."""
    said = who.caller or who.key
    if said:
        return said.encode()
    given = given_key(head)
    if given is not None:
        return blake2b(given, digest_size=16).digest()  # it travels with the request, which shows itself in a repr
    return head.client[0].encode() if head.client else b""
