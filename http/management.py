"""Everything that is not inference: the models, health and readiness, and what an operator asks and commands."""

from __future__ import annotations

import hmac
from collections.abc import AsyncGenerator, Callable
from typing import Any

import attrs
import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from infermux import __version__
from infermux.actors.description import Description
from infermux.actors.fleet import Fleet
from infermux.actors.kit_errors import ActorDied
from infermux.actors.ledger import Books
from infermux.actors.member import Member
from infermux.actors.messages import Health
from infermux.actors.provider_messages import Verb
from infermux.config.redact import redacted
from infermux.errors import (
    ConfigError,
    Conflict,
    InfermuxError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    ShuttingDown,
    Unauthorized,
)
from infermux.secret import Secret
from infermux.watchdog import Watchdog

from .access import given_key
from .admission import admitted
from .cache_page import add_cache
from .costs import add_costs
from .dashboard import add_dashboard, pages
from .door_log import DoorLog, admit, did
from .errors import error_answer, shape_of
from .events import Hub, add_events
from .exchange import Head
from .explain import add_explain
from .exposition import Metrics
from .inference import Inference
from .key_pages import add_keys
from .last_pages import LastPage
from .live_requests import add_requests
from .merging import add_look, add_merged
from .models_page import add_models, asked_head
from .money import add_money
from .openapi_page import add_openapi
from .overview import add_overview
from .polled import METRICS, Make, Polled, add_polled
from .probes import health_pages, metrics_page
from .queries import check_query
from .reloading import Reloader
from .rules import Rules
from .siblings import Siblings
from .sign_in import Door

PREFIX = "/_infermux"
EXEMPT = frozenset({f"{PREFIX}/health", f"{PREFIX}/accepting", f"{PREFIX}/ready"})
MAX_BODY = 64 * 1024


def _last_page(of: Management) -> LastPage | None:
    siblings = of.siblings
    return None if siblings is None else LastPage(siblings.last_page(siblings.place), of.metrics.page)


@attrs.frozen(kw_only=True)
class Management:
    """What the pages need.

    `token` guards `/_infermux/` where it is set; `token_required`: nothing is answered without one. `siblings` are all
    workers, where there are several.
    """

    fleet: Fleet
    inference: Inference
    reloader: Reloader
    token: Secret | None
    token_required: bool
    started_at: float
    watchdog: Watchdog
    books: Books | None
    metrics: Metrics
    hub: Hub
    door_log: DoorLog
    siblings: Siblings | None = None
    door: Door = attrs.field(factory=lambda: Door(PREFIX, pages(PREFIX)))
    last_page: LastPage | None = attrs.field(default=attrs.Factory(_last_page, takes_self=True), init=False)

    @property
    def rules(self) -> Rules:
        """Those in force."""
        return self.inference.rules


def local_app(management: Management) -> QuartTrio:
    """What answers for this worker alone, to the others: no token is asked for, and nothing logged."""
    app = _bare_app()
    _add_errors(app)
    _add_pages(app, management, public=True, merged=False)
    add_look(app, lambda: management.inference.keys, PREFIX)
    return app


def local_polled(management: Management) -> Polled:
    """What `local_app` answers, of what is polled."""
    return Polled(pages=_polled(management, public=True, merged=False), exempt=frozenset(), check=lambda _: None)


def management_polled(management: Management, *, public: bool = True) -> Polled:
    """The same of `management_app`, where it is `managed`."""
    siblings = management.siblings
    pages = _polled(management, public=public, merged=True)
    if siblings is not None:
        del pages[f"{PREFIX}/ready".encode()]  # of all of them, see `merging`
    exempt = frozenset(path.encode() for path in EXEMPT)
    return Polled(pages=pages, exempt=exempt, check=lambda head: _check_operator(management, head, lambda: False))


def management_app(management: Management, *, public: bool = True, managed: bool = True) -> QuartTrio:
    """The application: `public` serves `/v1/models`, `managed` serves `/_infermux/`."""
    app = _bare_app()
    _add_guard(app, management, managed)
    management.door_log.add(app, PREFIX)
    _add_errors(app)
    if public:
        add_models(app, management.inference)
    if managed:
        if management.siblings is not None:
            add_merged(app, management.siblings, management.fleet.nursery, PREFIX)
        _add_pages(app, management, public=public, merged=True)
    return app


def _bare_app() -> QuartTrio:
    app = QuartTrio(__name__, static_folder=None)
    app.config["RESPONSE_TIMEOUT"] = None  # it would also cut streams
    app.config["BODY_TIMEOUT"] = 10
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # a 405 as on every path: no other origin may ask, preflight or not
    app.json.sort_keys = False  # type: ignore[attr-defined]
    return app


def _add_errors(app: QuartTrio) -> None:
    app.register_error_handler(ConfigError, _refused_config)
    app.register_error_handler(InfermuxError, _error_response)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _crash(app))


def _add_pages(app: QuartTrio, management: Management, *, public: bool, merged: bool) -> None:
    add_polled(app, _polled(management, public=public, merged=merged))
    _add_status(app, management)
    _add_providers(app, management)
    _add_configuration(app, management)
    add_keys(app, lambda: management.inference.keys, management.fleet)
    add_money(app, management.fleet, PREFIX)
    add_costs(app, management.books)
    add_requests(app, management.inference, PREFIX)
    add_cache(app, management.inference, PREFIX)
    add_explain(app, management.inference, PREFIX)
    add_overview(app, management.hub.overview, PREFIX)
    add_events(app, management.hub, PREFIX)
    add_dashboard(app, PREFIX)
    add_openapi(
        app,
        PREFIX,
        mode=lambda: management.rules.config.auth.mode,
        token=management.token is not None or management.token_required,
        separate=not public,
    )
    management.door.add(app)


def _polled(management: Management, *, public: bool, merged: bool) -> dict[bytes, Make]:
    metrics = metrics_page(management.metrics, management.siblings, PREFIX)
    if not merged and management.last_page is not None:
        metrics = management.last_page.told
    pages = health_pages(management.fleet, management.inference, PREFIX)
    for prefix in (PREFIX, *(() if public else ("",))):
        pages[f"{prefix}{METRICS}".encode()] = metrics
    return pages


def _add_guard(app: QuartTrio, management: Management, managed: bool) -> None:
    @app.before_request
    async def guard() -> Response | None:
        try:
            _guard(management, managed)
        except Unauthorized as refused:
            if not managed or management.token is None:
                raise
            return management.door.turned_away(await _error_response(refused))
        return None


def _guard(management: Management, managed: bool) -> None:
    """All of `/_infermux/` asks for the token, but for `health`, `accepting` and `ready`.

    A browser that has signed in shows its cookie instead, for the dashboard's own files.
    Where it is not served, it is like any path.
    """
    path, head = request.path, asked_head()
    if path in EXEMPT:
        return
    if managed and (path.startswith(PREFIX) or path == METRICS):
        _check_operator(management, head, management.door.open)
        admit(by_token=management.token is not None)
        if request.url_rule is not None and path not in management.door.pages:
            check_query(request.url_rule.rule)
        return
    if management.rules.host_ruled:
        management.rules.host_rule.check(head)
    try:
        admitted(head, management.rules.config, management.inference.keys)
    except InvalidRequest:
        if request.routing_exception is None:  # what is not there at all is told first
            raise


def _check_operator(management: Management, head: Head, signed_in: Callable[[], bool]) -> None:
    """Raises Forbidden, and Unauthorized unless the token was sent or is not needed."""
    management.rules.host_rule.check(head)
    if management.token is not None:
        if not signed_in():
            _check_token(head, management.token)
    elif management.token_required:
        raise Unauthorized(
            "management is reachable from outside: set INFERMUX_MANAGEMENT_TOKEN, or `management_listen`"
        )


def _check_token(head: Head, token: Secret) -> None:
    given = given_key(head)
    if given is None or not hmac.compare_digest(given, token.reveal().encode()):
        raise Unauthorized(
            "management asks for the token: send INFERMUX_MANAGEMENT_TOKEN as `Authorization: Bearer TOKEN`"
        )


# Errors.


async def _error_response(error: InfermuxError) -> Response:
    headers, body = error_answer(error, shape_of(request.path.encode()))
    response = Response(body, status=error.status)
    for name, value in headers:
        response.headers[name.decode()] = value.decode("latin-1")
    return response


async def _http_error(error: HTTPException) -> Response:
    said = error.description or error.name
    match error.code:
        case 404:
            told: InfermuxError = NotFound(f"there is no {request.method} {request.path} here")
        case 405:
            allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ["POST"]))
            response = await _error_response(MethodNotAllowed(f"{request.path} takes {allowed}"))
            response.headers["Allow"] = allowed
            return response
        case 413:
            told = PayloadTooLarge(f"the body is larger than {MAX_BODY} bytes, the most that is read here")
        case code:
            told = InfermuxError(said, status=code or 500, code=error.name.lower().replace(" ", "_"))
    return await _error_response(told)


def _crash(app: QuartTrio) -> Callable[[Exception], Any]:
    async def crashed(error: Exception) -> Response:
        if isinstance(error, ActorDied):
            return await _error_response(ShuttingDown("that actor is restarting; try again", retry_after=1))
        app.logger.exception("a management request crashed")
        return await _error_response(InternalError("something went wrong in the router; its log has the details"))

    return crashed


async def _refused_config(error: ConfigError) -> Response:
    """400, in the shape of every error, with each problem by itself."""
    told = InvalidRequest(error.message, code=error.code)
    response = await _error_response(told)
    body = {**msgspec.json.decode(await response.get_data()), "problems": [attrs.asdict(p) for p in error.problems]}
    response.set_data(msgspec.json.encode(body))
    return response


# Health.


def _add_status(app: QuartTrio, management: Management) -> None:
    fleet, inference = management.fleet, management.inference

    @app.get(f"{PREFIX}/status")
    async def status() -> dict[str, Any]:
        rows = [_summary(member) for member in fleet.members.values()]
        return {
            "version": __version__,
            "uptime_seconds": round(trio.current_time() - management.started_at, 3),
            "ready": fleet.is_ready() and not inference.leaving and not inference.draining,
            "draining": inference.leaving or inference.draining,
            "in_flight": inference.in_flight,
            "strategy": fleet.config.routing.strategy,
            "default_model": fleet.catalogue.default_model,
            "routable": sum(row["routable"] for row in rows),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "event_loop": management.watchdog.statistics(),
            "state": None if fleet.supply is None else fleet.supply.as_json(),
            "ledger": None if management.books is None else management.books.as_json(),
            "providers": rows,
        }


def _summary(member: Member) -> dict[str, Any]:
    standing = member.standing
    reason = member.blocked(trio.current_time())
    return {
        "name": member.settings.name,
        "type": member.settings.type,
        "routable": reason is None,
        "reason": None if reason is None else reason.value,
        "health": standing.health.value,
        "circuit": member.gate.breaker.state(trio.current_time()).value,
        "in_flight": standing.in_flight,
    }


# Providers.


def _add_providers(app: QuartTrio, management: Management) -> None:
    fleet = management.fleet

    @app.get(f"{PREFIX}/providers")
    async def providers() -> dict[str, Any]:
        return {"providers": [attrs.asdict(found) async for found in _described(fleet)]}

    @app.get(f"{PREFIX}/providers/<name>")
    async def provider(name: str) -> dict[str, Any]:
        return attrs.asdict(await fleet.describe(name))

    @app.post(f"{PREFIX}/providers/<name>/<verb>")
    async def command(name: str, verb: str) -> dict[str, Any]:
        try:
            wanted = Verb(verb)
        except ValueError:
            raise NotFound(f"{verb!r} is not one of {', '.join(v.value for v in Verb)}") from None
        done = await fleet.command(name, wanted)
        if wanted is Verb.PROBE and done.health["state"] == Health.UNCHECKED.value:
            raise Conflict(
                f"provider {name} is never probed (health_check, or it is called with its callers' credentials): "
                "what it is worth is learnt from requests"
            )
        return attrs.asdict(done)


async def _described(fleet: Fleet) -> AsyncGenerator[Description]:
    for name in list(fleet.members):
        if name in fleet.members:  # it may be taken out while the others are asked
            yield await fleet.describe(name)


# The configuration.


def _add_configuration(app: QuartTrio, management: Management) -> None:
    @app.get(f"{PREFIX}/config")
    async def config() -> dict[str, Any]:
        return redacted(management.fleet.config)

    @app.post(f"{PREFIX}/reload")
    async def reload() -> dict[str, Any]:
        try:
            done = await management.reloader.reload(dry_run=_flag("dry_run"))
        except ConfigError as refused:
            did(problems=[str(problem) for problem in refused.problems])
            raise
        did(changes=list(done.difference.lines()))
        return done.as_json()


def _flag(name: str) -> bool:
    given = request.args.get(name, "false").lower()
    if given not in ("true", "1", "", "false", "0"):
        raise InvalidRequest(f"{name} must be true or false", param=name)
    return given not in ("false", "0")
