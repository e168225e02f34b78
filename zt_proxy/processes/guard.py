"""Whether a new configuration may be put in force, by what it would have done to the requests on record.

The replay runs in a process of its own, with the lowest priority and a time limit: neither the supervisor's loop nor a
request waits for it. What cannot be said within the limit, or at all, counts as too much: the configuration in force
stays, and the operator can force the other one.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from zt_proxy.config import units
from zt_proxy.config.build import Built, GuardSettings
from zt_proxy.control.audit import history
from zt_proxy.policy.actions import Profile
from zt_proxy.policy.geo import OriginSettings
from zt_proxy.policy.judged import BarePlace, Places
from zt_proxy.policy.profile_spec import ProfileSpec
from zt_proxy.policy.replay import Replay, Report
from zt_proxy.policy.spec import RouteRules
from zt_proxy.processes.leash import pack, unpack
from zt_proxy.worker.settings import RouteSettings

LIMIT = 60.0
"""Seconds for one replay."""
SIGN_INS = 86_400.0
"""Seconds by which reading begins before the window: who somebody is, their sign-in says."""
SHOWN = 3
"""Changes that a refusal names."""
FORCE = "`zt-proxy reload --force` takes it over all the same"

log = structlog.get_logger("zt_proxy.guard")


class SideRoute(msgspec.Struct, frozen=True):
    """What decides on one route, and nothing that is secret."""

    host: str
    prefix: bytes
    rules: RouteRules
    profile: ProfileSpec | None


class Side(msgspec.Struct, frozen=True):
    """One of the two configurations."""

    routes: tuple[SideRoute, ...]
    origins: OriginSettings


class Question(msgspec.Struct, frozen=True):
    """To the process that replays."""

    before: Side
    after: Side
    directory: Path
    since: float


async def refusal(old: Built, new: Built, now: float, limit: float = LIMIT) -> str:
    """Why the guard refuses `new`, in words for the operator; empty: it does not, or there is none.

    The guard in force judges, so that a file cannot do away with it and pass; one that is new judges itself.
    """
    settings = old.guard or new.guard
    if settings is None:
        return ""
    before, after = side(old), side(new)
    if before == after:
        return ""
    question = Question(before, after, old.control.audit.directory, now - settings.window)
    try:
        async with asyncio.timeout(limit):
            report = await _ask(question, old.secret_variables)
    except TimeoutError:
        return (
            f"the guard could not replay the last {units.show_duration(settings.window)} of the record within "
            f"{limit:g} s, and refuses it; shorten `guard.window`, or {FORCE}"
        )
    except (OSError, ValueError) as error:
        return f"the guard could not replay the record, and refuses it: {error}; {FORCE}"
    log.info("replayed", compared=report.compared, turned=report.turned, unknown=sum(report.not_comparable.values()))
    return verdict(settings, report)


def verdict(settings: GuardSettings, report: Report) -> str:
    """What the guard says of a replay; empty: nothing."""
    most = settings.most if settings.most is not None else settings.share * report.compared
    if report.turned <= most:
        return ""
    bound = str(settings.most) if settings.most is not None else f"{settings.share:.3%}".replace(".000%", "%")
    turning = [change for change in report.changes if change.turns]
    shown = "; ".join(
        f"{each.who} on {each.route}{f' ({each.action})' if each.action else ''}: {each.before} → {each.after}"
        f"{f' by rule {each.rule_after}' if each.rule_after else ''}, {each.count} times, such as {each.example}"
        for each in turning[:SHOWN]
    )
    return (
        f"the guard refuses it: {report.turned} of {report.compared} decisions of the last "
        f"{units.show_duration(settings.window)} would turn, at most {bound} may ({shown}"
        f"{'; and more' if len(turning) > SHOWN else ''}); `zt-proxy replay` shows all, {FORCE}"
    )


def side(built: Built) -> Side:
    """What decides in a configuration."""
    return Side(tuple(_route(route) for route in built.worker.routes), built.worker.origins)


def _route(route: RouteSettings) -> SideRoute:
    return SideRoute(route.host, route.prefix, route.rules, route.profile)


async def _ask(question: Question, hidden: tuple[str, ...]) -> Report:
    """Raises OSError, and ValueError for a process that failed; the process is over by then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "zt_proxy.processes", "guard",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name not in hidden}, start_new_session=True,
    )  # fmt: skip
    try:
        said, problem = await process.communicate(pack(question))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = problem.decode("utf-8", "replace").strip().splitlines()
        raise ValueError(lines[-1] if lines else f"exit code {process.returncode}")
    return msgspec.json.decode(said, type=Report)


def replayed(question: Question) -> Report:
    """The answer, in the process that replays. A log that is not there yet has no requests. Raises OSError."""
    run = Replay(_places(question.after), _places(question.before), since=question.since, effects_only=True)
    for line in _lines(question):
        run.feed(line)
    return run.report()


def _lines(question: Question) -> Iterator[bytes]:
    try:
        yield from history.lines([question.directory], max(0.0, question.since - SIGN_INS))
    except FileNotFoundError:
        return


def _places(one: Side) -> Places:
    return Places(
        (
            BarePlace(
                route.host,
                route.prefix,
                route.rules,
                Profile(route.profile, route.prefix) if route.profile is not None else None,
            )
            for route in one.routes
        ),
        one.origins,
    )


def question_of(data: bytes) -> Question:
    """As it came. Raises msgspec.ValidationError."""
    return unpack(Question, data)
