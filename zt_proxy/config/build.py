"""From the checked schema to the plain settings that worker and control declare."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from zt_proxy.config import (
    build_identity,
    build_machines,
    build_mask,
    build_mfa,
    build_policy,
    build_risk,
    build_watch,
    check_profile,
    names,
    session_presets,
)
from zt_proxy.config.certificates import dns_names
from zt_proxy.config.files import cores, files, references
from zt_proxy.config.load import Loaded
from zt_proxy.config.problems import ConfigurationProblems, Problem, Severity
from zt_proxy.config.profiles import load_profile
from zt_proxy.config.schema import Listener, Schema
from zt_proxy.config.schema_mail import Mail
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.secrets import resolve
from zt_proxy.control.settings import (
    AppHost,
    AuditSettings,
    ControlSettings,
    MailSettings,
    MailTls,
    SessionSettings,
)
from zt_proxy.policy.spec import RuleSpec
from zt_proxy.worker.settings import (
    CertificateSettings,
    LimitSettings,
    ListenerSettings,
    PathSettings,
    PortalSettings,
    RouteSettings,
    UpstreamSettings,
    WorkerSettings,
)

SOCKET = "portal.sock"


class LogSettings(msgspec.Struct, frozen=True):
    """How the program logs."""

    format: Literal["json", "console"]
    level: Literal["debug", "info", "warning", "error"]


class GuardSettings(msgspec.Struct, frozen=True):
    """How much of what is on record a new configuration may turn."""

    most: int | None
    """Decisions; None: `share` counts."""
    share: float
    """Of those that can be compared, 0 to 1."""
    window: float
    """Seconds back from now."""


class Built(msgspec.Struct, frozen=True):
    """Everything a process needs to start. `warnings` are for the log."""

    worker: WorkerSettings
    control: ControlSettings
    log: LogSettings
    warnings: tuple[Problem, ...] = ()
    workers: int = 0
    """Worker processes; 0: one process for everything."""
    files: tuple[Path, ...] = ()
    """The file itself and all it names: a change of any is a change of the configuration."""
    secret_variables: tuple[str, ...] = ()
    """Environment variables that hold secrets: no other process needs them."""
    guard: GuardSettings | None = None
    """None: every configuration that can be put in force is."""


def build(loaded: Loaded, warnings: tuple[Problem, ...] = ()) -> Built:
    """Settings of a file whose `check` found no error. Raises ConfigurationProblems when it was not understood."""
    if loaded.schema is None or any(problem.severity is Severity.ERROR for problem in loaded.problems):
        raise ConfigurationProblems(loaded.problems)
    schema = loaded.schema
    folders = _Folders(loaded.base, schema)
    workers = cores() if schema.workers is None else schema.workers
    _, host, port = names.origin(schema.portal.url)
    portal = PortalSettings(f"https://{names.join(host, port)}", names.join(host, port), folders.runtime / SOCKET)
    scopes = build_machines.scopes(schema.integrations.items())
    routes = tuple(
        _route(route, schema, port, folders.path, tuple(scopes.get(route.name, ()))) for route in schema.routes
    )
    worker = WorkerSettings(
        listeners=tuple(_listener(listener, folders.path) for listener in schema.listen),
        routes=routes,
        portal=portal,
        issuer=portal.origin,
        runtime_dir=folders.runtime,
        limits=_limits(schema),
        trusted_proxies=tuple(str(network) for network in names.networks(schema.trusted_proxies)),
        session_recheck=schema.session.recheck,
        form_limit=schema.session.form_limit,
        drain=schema.limits.drain,
        metrics=names.bind(schema.metrics.address) if schema.metrics else None,
        ring_bytes=schema.audit.ring,
        integrations=build_machines.integrations(schema),
        rate_shares=max(1, workers),
        origins=build_policy.origins(schema, folders.path),
        risk=build_risk.risk(schema),
    )
    log = LogSettings(schema.log.format, schema.log.level)
    control = _control(loaded, schema, portal, folders, routes)
    control = replace(control, integrations=tuple(one.name for one in worker.integrations))
    worker = replace(worker, strongest=build_mfa.strongest(control.providers, control.factors))
    variables = tuple(sorted({each.name for each in references(schema) if each.kind == "env"}))
    watched = {*files(loaded.path, schema, worker, control), *check_profile.files(schema, loaded.base)}
    return Built(worker, control, log, warnings, workers, tuple(sorted(watched)), variables, guard(schema))


def guard(schema: Schema) -> GuardSettings | None:
    """How much a reload may turn; None: nobody asks."""
    chosen = schema.guard
    if chosen is None:
        return None
    bound = chosen.max_changed
    return GuardSettings(None if bound < 0 else int(bound), max(0.0, -bound), chosen.window)


class _Folders:
    """Relative paths start at the folder of the YAML file."""

    def __init__(self, base: Path, schema: Schema) -> None:
        self.base = base
        self.state = self.path(schema.state_dir)
        self.runtime = self.path(schema.runtime_dir) if schema.runtime_dir else self.state / "run"
        self.audit = self.path(schema.audit.directory) if schema.audit.directory else self.state / "audit"

    def path(self, text: str) -> Path:
        return self.base / Path(text).expanduser()


def runtime_dir(base: Path, schema: Schema) -> Path:
    """Where sockets and the record ring will live."""
    return _Folders(base, schema).runtime


def audit_dir(base: Path, schema: Schema) -> Path:
    """Where the audit log is."""
    return _Folders(base, schema).audit


def _listener(listener: Listener, path: Callable[[str], Path]) -> ListenerSettings:
    host, port = names.bind(listener.address)
    return ListenerSettings(
        name=listener.name,
        host=host,
        port=port,
        certificates=tuple(
            CertificateSettings(path(chain), path(key), dns_names(path(chain))) for chain, key in pairs(listener)
        ),
        minimum_tls=listener.tls.minimum,
        proxy_protocol_from=tuple(
            str(network) for network in names.networks(listener.proxy_protocol.from_ if listener.proxy_protocol else [])
        ),
        client_certificates=build_machines.client_certificates(listener, path),
    )


def pairs(listener: Listener) -> list[tuple[str, str]]:
    """Chain and key files of a listener, the default first."""
    tls = listener.tls
    single = [(tls.certificate, tls.key)] if tls.certificate and tls.key else []
    return single + [(one.certificate, one.key) for one in tls.certificates]


def _limits(schema: Schema) -> LimitSettings:
    chosen = schema.limits
    return LimitSettings(**{name: getattr(chosen, name) for name in LimitSettings.__struct_fields__})


def _control(
    loaded: Loaded, schema: Schema, portal: PortalSettings, folders: _Folders, routes: tuple[RouteSettings, ...]
) -> ControlSettings:
    providers = schema.identity.providers
    login = schema.identity.login
    hosts = dict.fromkeys(route.host for route in routes)
    return ControlSettings(
        portal_origin=portal.origin,
        portal_host=portal.host,
        socket=portal.socket,
        state_dir=folders.state,
        runtime_dir=folders.runtime,
        providers=tuple(build_identity.provider(name, providers, loaded.base) for name in providers),
        apps={
            host: AppHost(
                host,
                f"https://{host}",
                tuple(route.name for route in routes if route.host == host),
                {route.name: route.rules.provider for route in routes if route.host == host and route.rules.provider},
            )
            for host in hosts
        },
        factors=build_mfa.factors(schema, loaded.base),
        audit=AuditSettings(folders.audit, schema.audit.rotate),
        session=SessionSettings(
            session_presets.idle(schema.session),
            session_presets.absolute(schema.session),
            schema.session.limit or 0,
            schema.session.limit_policy == "refuse",
        ),
        mail=_mail(schema.mail, loaded.base) if schema.mail else None,
        form_limit=schema.session.form_limit,
        pending_logins=login.pending,
        pending_logins_per_address=login.pending_per_address,
        logins_at_once=login.at_once,
        logins_waiting=login.waiting,
        login_lifetime=login.lifetime,
        code_lifetime=login.code_lifetime,
        assertion_rotation=schema.assertion.rotation,
        assertion_overlap=schema.assertion.overlap,
        revocation=build_machines.revocation(schema, folders.path),
        insecure=tuple(insecure_switches(schema)),
        origins=build_policy.origins(schema, folders.path),
        break_glass=build_policy.break_glass(schema),
        approvals=build_policy.approvals(routes),
        risk=build_risk.risk(schema),
        watch=build_watch.watch(schema, loaded.base),
    )


def _mail(mail: Mail, base: Path) -> MailSettings:
    host, port = names.bind(mail.server)
    return MailSettings(
        host=host,
        port=port,
        sender=mail.from_,
        tls=MailTls(mail.tls),
        username=mail.username or "",
        password=resolve(mail.password, base) if mail.password else None,
        ca=base / Path(mail.ca).expanduser() if mail.ca else None,
        timeout=mail.timeout,
    )


def insecure_switches(schema: Schema) -> list[str]:
    """Names of the `insecure_…` keys that are on."""
    on = [
        f"identity.providers.{name}.{switch}"
        for name, provider in schema.identity.providers.items()
        for switch in ("insecure_no_mfa", "insecure_http")
        if getattr(provider, switch)
    ]
    if schema.mail is not None and schema.mail.tls == "insecure_none":
        on.append("mail.tls.insecure_none")
    on += build_watch.insecure(schema)
    if schema.geoip.insecure_origin_header is not None:
        on.append("geoip.insecure_origin_header")
    on += [
        f"routes.{route.name}.insecure_root_service_worker"
        for route in schema.routes
        if route.insecure_root_service_worker
    ]
    on += [
        f"routes.{route.name}.answers.uninspectable.insecure_pass"
        for route in schema.routes
        if build_mask.on_route(route, schema) and route.answers.uninspectable == "insecure_pass"
    ]
    return on + [
        f"routes.{route.name}.rules.{rule.id}.insecure_allow_everyone"
        for route in schema.routes
        for rule in route.rules
        if rule.insecure_allow_everyone
    ]


def _route(
    route: Route, schema: Schema, portal_port: int, path: Callable[[str], Path], scopes: tuple[RuleSpec, ...]
) -> RouteSettings:
    host = names.join(*names.public_host(route.host, portal_port))
    paths = route.paths
    secret = route.shared_secret
    return RouteSettings(
        name=route.name,
        host=host,
        prefix=names.prefix(route.path).encode("ascii"),
        upstream=_upstream(route, path),
        rules=build_policy.route_rules(route, schema, scopes),
        audience=route.audience or f"https://{host}",
        strip_prefix=route.strip_prefix,
        preserve_host=route.preserve_host,
        paths=PathSettings(
            encoded_slash=paths.encoded_slash == "allow",
            double_slash=paths.double_slash == "allow",
            parameters=paths.parameters == "allow",
            encoded_delimiters=paths.encoded_delimiters == "allow",
            case_insensitive=paths.case == "insensitive",
        ),
        body_limit=route.body_limit if route.body_limit is not None else schema.limits.body,
        idle_timeout=route.session.idle,
        absolute_timeout=route.session.absolute,
        idle_ignore=tuple(route.session.ignore),
        cors_origins=tuple(route.cors.origins) if route.cors else (),
        cors_credentials=route.cors.credentials if route.cors else True,
        identity_headers=route.identity_headers,
        shared_secret_header=(secret.header, resolve(secret.value, path("")).reveal()) if secret else None,
        forward_authorization=route.forward_authorization,
        machines_only=route.machines_only,
        helper=route.helper == "inject",
        masks=build_mask.masks(route, schema),
        answers=build_mask.answers(route.answers),
        insecure_root_service_worker=route.insecure_root_service_worker,
        profile=load_profile(route.profile, path("")) if route.profile else None,
    )


def _upstream(route: Route, path: Callable[[str], Path]) -> UpstreamSettings:
    chosen = route.upstream
    return msgspec.structs.replace(
        names.upstream(chosen.url),
        ca=path(chosen.ca) if chosen.ca else None,
        certificate=path(chosen.certificate) if chosen.certificate else None,
        key=path(chosen.key) if chosen.key else None,
        server_name=chosen.server_name,
        connect_timeout=chosen.connect_timeout,
        first_byte_timeout=chosen.first_byte_timeout,
        idle_timeout=chosen.idle_timeout,
        max_connections=chosen.max_connections,
    )
