"""What rules ask for: whether it can be met, and whether what is below only tightens what is above."""

from collections.abc import Sequence

from zt_proxy.config import units
from zt_proxy.config.check import Checking
from zt_proxy.config.problems import Mark, nearest
from zt_proxy.config.requirements import Floors, Needs, needs, spelled
from zt_proxy.config.schema_base import Model
from zt_proxy.config.schema_rules import Approve, Require, Rule

DAY = 86_400.0


def check_require(checking: Checking, require: Require, floors: Floors) -> None:
    """What is asked for may tighten what is asked above it, and never loosen it."""
    checking.not_zero(require)
    problems, own = checking.problems, needs(require)
    for place, above in floors:
        least = needs(above)
        if require.mfa is not None and own.level < least.level:
            problems.error(
                require.at("mfa"),
                f"`{own.level.word}` is less than the {place} asks",
                f"`{least.level.word}` or stronger",
            )
        if require.justify is False and least.justify:
            problems.error(require.at("justify"), f"`false` is less than the {place} asks", "`true`")
        if require.reauth is not None:
            _reauth(checking, require, place, own, least)
        if require.approve is not None and own.approve is not None and least.approve is not None:
            if not (own.approve.users <= least.approve.users and own.approve.groups <= least.approve.groups):
                problems.error(
                    require.at("approve"), f"people may agree whom the {place} does not name", "some of those alone"
                )
            if require.approve.written("for") and own.approve.valid > least.approve.valid:
                said = units.show_duration(least.approve.valid)
                problems.error(require.approve.at("for"), f"longer than the {place} permits", f"`{said}` or shorter")
    if require.approve is not None:
        _approve(checking, require.approve)


def _reauth(checking: Checking, require: Require, place: str, own: Needs, least: Needs) -> None:
    age, once = own.reauth, own.once
    if (least.once and not once) or (age is not None and least.reauth is not None and age > least.reauth):
        said = spelled(least.reauth, least.once)
        checking.problems.error(
            require.at("reauth"),
            f"`{spelled(age, once)}` is less than the {place} asks",
            f"`{said}`" if least.once else f"`{said}` or shorter",
        )


def _approve(checking: Checking, approve: Approve) -> None:
    problems = checking.problems
    if not approve.users and not approve.groups and not approve.damaged:
        problems.error(approve.start, "`approve` names nobody: nobody could agree", "`users` or `groups`")
    accounts(checking, approve, "users", approve.users)
    names(checking, approve, "groups", approve.groups)
    if approve.for_ > DAY:
        problems.error(approve.at("for"), "an approval lasts a day at most", "`24h` or shorter")
    elif approve.for_ == 0:
        problems.error(approve.at("for"), "`for` is zero", "more than zero")


def alone(checking: Checking, rule: Rule, asked: Needs) -> None:
    """Approvers that nobody the rule is for could turn to. `asked`: what the rule asks in the end."""
    to, who = rule.to, asked.approve
    if to is None or who is None:
        return
    at = rule.require.at("approve") if rule.require.written("approve") else rule.at("id")
    if not who.users and not who.groups:
        if rule.require.written("approve"):
            return  # told where it widens what stands above, or names nobody itself
        checking.problems.error(at, "nobody is left who could agree", "people whom every `approve` above names too")
    elif not who.groups and len(who.users) == 1 and set(to.users) == who.users and not (to.groups or to.roles):
        checking.problems.error(
            at, f"nobody but `{to.users[0]}` may agree, who would be the one to ask", "somebody else as well"
        )
    elif not who.groups and len(who.users) == 1 and who.users <= set(to.users):
        checking.problems.warning(
            at, f"nobody could agree to what `{next(iter(who.users))}` asks for", hint="name two people, or a group"
        )


def meaningless(checking: Checking, rule: Rule) -> None:
    """What has no meaning on a rule that denies, or for strangers, or for integrations."""
    problems, to = checking.problems, rule.to
    asks = any(getattr(rule.require, key) is not None for key in ("mfa", "reauth", "justify", "approve"))
    if asks and rule.deny is not None:
        problems.error(rule.at("require"), "`require` has no meaning on a rule that denies")
    if asks and to is not None and to.word == "public":
        problems.error(rule.at("require"), "`require` on a rule for `public`: strangers have proven nothing")
    if asks and to is not None and to.integrations:
        problems.error(rule.at("require"), "`require` on a rule for integrations: only people prove themselves again")
    for key in ("mask", "limit", "notify"):
        if getattr(rule, key) and rule.deny is not None:
            problems.error(rule.at(key), f"`{key}` has no meaning on a rule that denies")
    if rule.limit is not None:
        if rule.limit.requests is None and rule.limit.bytes is None and not rule.limit.damaged:
            problems.error(rule.at("limit"), "`limit` bounds nothing", "`requests` or `bytes`")
        checking.not_zero(rule.limit)
        if to is not None and to.word == "public":
            problems.error(rule.at("limit"), "`limit` on a rule for `public`: it counts what one person does")


def accounts(checking: Checking, model: Model, key: str, users: Sequence[str]) -> None:
    """Subjects or verified addresses; with several providers a subject alone could be two people."""
    names(checking, model, key, users)
    several = len(checking.schema.identity.providers) > 1
    for index, user in enumerate(users):
        if several and user and "@" not in user:
            checking.problems.error(
                model.at(key, index), f"`{user}`: two providers can call different people so", "a verified address"
            )


def names(checking: Checking, model: Model, key: str, items: Sequence[str]) -> None:
    """Names of people and groups, as they are compared."""
    if not items and model.written(key) and model.complete(key):
        checking.problems.error(model.at(key), f"`{key}` is empty and would match nobody", hint="leave it out")
    for index, name in enumerate(items):
        if not name or name != name.strip() or "*" in name:
            checking.problems.error(model.at(key, index), f"`{name}` can be nobody: names are compared exactly")


def role(checking: Checking, at: Mark | None, name: str) -> None:
    """A role that is neither in the file nor likely to be the provider's."""
    defined = checking.schema.roles
    if name in defined or not checking.schema.complete("roles"):
        return
    hint = nearest(name, defined)
    if hint:
        checking.problems.error(at, f"`{name}` is no role", hint=hint)
    elif defined:
        checking.problems.warning(at, f"`{name}` is no role of this file: it counts where a provider names it")
