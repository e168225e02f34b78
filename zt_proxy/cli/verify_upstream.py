"""`zt-proxy verify-upstream`: does the app behind a route really verify the assertion?"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zt_proxy.control.upstream_check import Answer, Report, Upstream
    from zt_proxy.worker.settings import RouteSettings


def register(app: typer.Typer) -> None:
    app.command(
        name="verify-upstream",
        epilog="Example:  zt-proxy verify-upstream builder -c zt-proxy.yaml --path /api/me",
    )(verify_upstream)


def verify_upstream(
    route: Annotated[str, typer.Argument(help="Name of the route whose app is asked.", show_default=False)],
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file that is served.")],
    path: Annotated[str, typer.Option(help="Path, as the app sees it, that answers signed-in people only.")] = "/",
    method: Annotated[str, typer.Option(help="A method that changes nothing.")] = "GET",
    subject: Annotated[
        str, typer.Option(help="`sub` of the assertions; a person the app knows, if it must.")
    ] = "zt-proxy:verify-upstream",
    email: Annotated[str, typer.Option(help="`email` of the assertions.")] = "",
    group: Annotated[list[str] | None, typer.Option(help="A group the app asks for; may be repeated.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one request.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Send good and forged assertions straight to the app of a route, and report which it accepts.

    Exit code 0: it refuses all forged ones; 1: it does not; 2: nothing could be learned.
    """
    from zt_proxy.config import read
    from zt_proxy.control import upstream_check
    from zt_proxy.control.assertion_keys import AssertionKeys
    from zt_proxy.control.upstream_probes import Visitor, probes
    from zt_proxy.core.clock import SystemClock
    from zt_proxy.core.errors import ConfigurationError

    clock = SystemClock()
    try:
        built = read(config)
        chosen = _route(built.worker.routes, route)
        keys = AssertionKeys.load(built.control.state_dir, clock)
        visitor = Visitor(built.worker.issuer, chosen.audience, subject, email or None, tuple(group or ()))
        sent = probes(keys.current(), visitor, clock.now())
        upstream = upstream_of(chosen, timeout)
        report = asyncio.run(upstream_check.check(upstream, sent, method=method, path=path))
    except (ConfigurationError, OSError) as error:
        typer.secho(getattr(error, "detail", "") or str(error), fg="red", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(_json(chosen, upstream, report))
    else:
        _print(chosen, upstream, report, path)
    raise typer.Exit(report.exit_code)


def _route(routes: "tuple[RouteSettings, ...]", name: str) -> "RouteSettings":
    from zt_proxy.core.errors import ConfigurationError

    for route in routes:
        if route.name == name:
            return route
    known = ", ".join(route.name for route in routes)
    raise ConfigurationError(f"no route is called {name}; there are: {known}")


def upstream_of(route: "RouteSettings", timeout: float) -> "Upstream":
    """Where the route's requests go, as the checker takes it: the way the proxy itself would send them."""
    from zt_proxy.control.upstream_check import Upstream

    settings = route.upstream
    if settings.scheme == "unix":
        return Upstream("http://localhost", route.host, Path(settings.path), timeout=timeout, headers=_secret(route))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    authority = f"{host}:{settings.port}"
    return Upstream(
        origin=f"{settings.scheme}://{authority}",
        host=route.host if route.preserve_host else authority,
        ca=settings.ca,
        certificate=settings.certificate,
        key=settings.key,
        server_name=settings.server_name,
        timeout=timeout,
        headers=_secret(route),
    )


def _secret(route: "RouteSettings") -> tuple[tuple[str, str], ...]:
    return () if route.shared_secret_header is None else (route.shared_secret_header,)


def _json(route: "RouteSettings", upstream: "Upstream", report: "Report") -> str:
    import msgspec

    body = {
        "route": route.name,
        "audience": route.audience,
        "upstream": str(upstream.socket or upstream.origin),
        "exit_code": report.exit_code,
        "good": report.good,
        "forged": report.forged,
        "again": report.again,
    }
    return msgspec.json.encode(body).decode("utf-8")


_COLOURS = {"accepted": "bold red", "refused": "green", "unclear": "yellow"}


def _print(route: "RouteSettings", upstream: "Upstream", report: "Report", path: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(escape(f"{route.name}: {upstream.socket or upstream.origin}{path}, audience {route.audience}"))
    table = Table("sent", "answer", "verdict")
    for answer in (report.good, *report.forged, *((report.again,) if report.again else ())):
        good = answer in (report.good, report.again)
        colour = _COLOURS[answer.outcome.value]
        if good:
            colour = "green" if answer.outcome.value == "accepted" else "bold red"
        table.add_row(escape(answer.probe), escape(_seen(answer)), f"[{colour}]{answer.outcome.value}[/]")
    console.print(table)
    for line in _verdict(report):
        console.print(escape(line))


def _seen(answer: "Answer") -> str:
    if answer.status is None:
        return answer.error
    return f"{answer.status} → {answer.location}" if answer.location else str(answer.status)


def _verdict(report: "Report") -> list[str]:
    wrong = [answer for answer in report.forged if answer.outcome.value != "refused"]
    lines = []
    for answer in wrong:
        if answer.outcome.value == "accepted":
            lines.append(f"The app does not check {answer.unchecked}. ({answer.probe})")
        else:
            lines.append(f"No clear refusal: {answer.probe} got {_seen(answer)}; expected 401 or 403.")
    if any(answer.probe == "no assertion" and answer.outcome.value == "accepted" for answer in wrong):
        lines.append("If the path is meant for everyone, name one that is not: --path /…")
    if report.good.status is None:
        lines.append("The app cannot be reached, so nothing was learned.")
    elif report.again is None:
        lines.append(
            "The app refused the good assertion, so nothing was learned. Does it know issuer, audience and JWKS?"
        )
        lines.append("Choose a --path that answers 2xx or 3xx, and a --subject, --email or --group the app knows.")
    elif not report.usable:
        lines.append(
            "At the end the app refused the good assertion too: its refusals in between may mean something else."
        )
    elif not wrong:
        lines.append("The app refuses every forged assertion.")
    return lines
