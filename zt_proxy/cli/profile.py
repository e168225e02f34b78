"""`zt-proxy profile`: what there is, what it says, whether a file is right, and a draft from the record."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zt_proxy.config.profiles import LoadedProfile
    from zt_proxy.policy.profile_spec import FieldTest, MatcherSpec, MessageSpec, OtherwiseSpec, ProfileSpec

_LIST = """Examples:

  zt-proxy profile list

  zt-proxy profile list --config zt-proxy.yaml   (with the operator's own, in profiles/ beside the file)"""
_SHOW = """Examples:

  zt-proxy profile show node-red

  zt-proxy profile show ./mine.yaml --json | jq '.matchers[].action'

Exit code: 0 shown, 1 it has errors, 2 there is no such profile."""
_CHECK = """Examples:

  zt-proxy profile check profiles/mine.yaml

  zt-proxy profile check node-red --json

Exit code: 0 fine, 1 errors, 2 there is no such file."""
_RECORD = """Examples:

  zt-proxy profile record builder --config zt-proxy.yaml

  zt-proxy profile record builder --log state/audit --at-least 5 > profiles/mine.yaml

The actions in the draft are guesses: read each line before you use it, and try it in report-only first.

Exit code: 0 drafted, or nothing to draft; 2 the log or the configuration cannot be read."""

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file; its folder has own profiles.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Profiles: which request means which action on a platform.", no_args_is_help=True)
    group.command("list", epilog=_LIST)(list_profiles)
    group.command(epilog=_SHOW)(show)
    group.command(epilog=_CHECK)(check)
    group.command(epilog=_RECORD)(record)
    app.add_typer(group, name="profile")


def list_profiles(config: Config = None, as_json: AsJson = False) -> None:
    """Name every profile, what it was written against, and how it was verified."""
    from zt_proxy.config.profiles import known_profiles, read_file

    base = config.parent if config is not None else None
    found = {name: read_file(path, base) for name, path in sorted(known_profiles(base).items())}
    if as_json:
        told = {
            name: {
                "file": str(loaded.path),
                "title": loaded.spec.title,
                "written_against": loaded.spec.written_against,
                "verified": loaded.spec.verified,
                "matchers": len(loaded.spec.matchers),
            }
            if loaded.spec is not None
            else {"file": str(loaded.path), "errors": len(loaded.errors)}
            for name, loaded in found.items()
        }
        typer.echo(json.dumps(told, indent=2))
        return
    for name, loaded in found.items():
        if loaded.spec is None:
            typer.echo(f"{name:<14} {len(loaded.errors)} errors: see `zt-proxy profile check {loaded.path}`")
            continue
        spec = loaded.spec
        typer.echo(f"{name:<14} {spec.title}, {spec.written_against}; {len(spec.matchers)} matchers")
        typer.echo(f"{'':<14} {spec.verified}")


def show(
    name: Annotated[str, typer.Argument(help="Name, or path of a file.", show_default=False)],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what a profile makes of requests, in the order it looks at them."""
    loaded = _read(name, config)
    if loaded.spec is None:
        _problems(loaded)
        raise typer.Exit(1)
    spec = loaded.spec
    if as_json:
        import msgspec

        typer.echo(json.dumps(msgspec.to_builtins(spec), indent=2))
        return
    typer.echo(f"{spec.title} ({spec.name}), written against {spec.written_against}\nverified {spec.verified}\n")
    for matcher in spec.matchers:
        action = matcher.action.value if matcher.action else "deny"
        typer.echo(f"{action:<20} {_request(matcher)}{_meaning(matcher)}  [{matcher.id}]")
    for message in spec.messages:
        fields = f"where {_tests(message.fields)}" if message.fields else "any"
        action = message.action.value if message.action else "deny"
        typer.echo(f"{action:<20} message {fields}{_meaning(message)}  [{message.id}]")
    for line in _otherwise(spec.otherwise, spec):
        typer.echo(line)


def check(
    file: Annotated[str, typer.Argument(help="File of a profile, or a name.", show_default=False)],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with a profile; change nothing."""
    loaded = _read(file, config)
    if as_json:
        import msgspec

        told = {"ok": not loaded.errors, "problems": loaded.problems}
        typer.echo(json.dumps(msgspec.to_builtins(told, enc_hook=str), indent=2))
    else:
        _problems(loaded)
        if loaded.spec is not None:
            counted = Counter(matcher.action.value if matcher.action else "deny" for matcher in loaded.spec.matchers)
            numbers = ", ".join(f"{count} {action}" for action, count in counted.most_common())
            typer.echo(f"{loaded.path}: fine; matchers: {numbers or 'none'}")
    raise typer.Exit(1 if loaded.spec is None else 0)


def record(
    route: Annotated[str, typer.Argument(help="Name of the route.", show_default=False)],
    config: Config = None,
    log: Annotated[Path | None, typer.Option(help="Log directory; left out: the configuration's.")] = None,
    at_least: Annotated[int, typer.Option(min=1, help="Leave out what was asked less often.")] = 1,
) -> None:
    """Draft matchers for requests on the record that no matcher of the route's profile fits."""
    from zt_proxy.cli.profile_draft import draft, requests_of, settings_of

    try:
        source = settings_of(config, route, log)
        seen = requests_of(source, route)
    except (OSError, ValueError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from error
    kept = [each for each in seen if each.count >= at_least]
    if not kept:
        typer.secho(f"Nothing on the record of `{route}` is without a matcher.", fg="green", err=True)
        return
    typer.echo(draft(kept, route, source.profile), nl=False)


def _read(name: str, config: Path | None) -> "LoadedProfile":
    """The profile; ends the program with 2 when there is none of that name."""
    from zt_proxy.config.profiles import find, known_profiles, read_profile

    base = config.parent if config is not None else Path()
    path = find(name, base)
    if path is None and Path(name).is_file():
        path = Path(name)
        name = f"./{name}"
    if path is None or not path.is_file():
        typer.secho(f"{name}: no such profile; known: {', '.join(sorted(known_profiles(base)))}", fg="red", err=True)
        raise typer.Exit(2)
    return read_profile(name, base)


def _problems(loaded: "LoadedProfile") -> None:
    for problem in loaded.problems:
        typer.echo(str(problem))


def _request(matcher: "MatcherSpec") -> str:
    methods = "WebSocket" if matcher.websocket else " ".join(matcher.methods) or "any"
    parts = [methods, " ".join(matcher.paths) or "any path"]
    for label, tests in (("?", matcher.query), ("header ", matcher.headers), ("body ", matcher.body)):
        if tests:
            parts.append(f"{label}{_tests(tests)}")
    if matcher.graphql is not None:
        asked = matcher.graphql
        words = (("type", asked.types), ("operation", asked.operations), ("field", asked.fields))
        parts.append("graphql " + ", ".join(f"{label}={'|'.join(values)}" for label, values in words if values))
    return "  ".join(parts)


def _tests(tests: "tuple[FieldTest, ...]") -> str:
    return ", ".join(
        f"no {test.name}" if test.absent else test.name + (f"={'|'.join(test.values)}" if test.values else "")
        for test in tests
    )


def _meaning(matcher: "MatcherSpec | MessageSpec") -> str:
    text = ""
    if matcher.object is not None:
        text += f"  → {matcher.object.kind}" + (f":{matcher.object.name}" if matcher.object.name else "")
    if matcher.sensitivity is not None:
        text += f"  ({matcher.sensitivity.value})"
    return text + (f"  changes {matcher.changes.value}" if matcher.changes is not None else "")


def _otherwise(otherwise: "OtherwiseSpec", spec: "ProfileSpec") -> list[str]:
    kinds = [("safe methods", otherwise.safe), ("unsafe methods", otherwise.unsafe), ("WebSocket", otherwise.websocket)]
    if spec.messages and not otherwise.message_as_opened:
        kinds.append(("messages", otherwise.message))
    return [f"{action.value if action else 'deny':<20} otherwise: {kind}" for kind, action in kinds]
