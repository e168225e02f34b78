"""Whom `users` of a rule names, where several providers may call different people by one subject."""

from collections.abc import Collection

import msgspec

from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_rules import To


class People(msgspec.Struct, frozen=True):
    """`users`, told apart. With one provider everything stays in `either`: there is nobody to mix up."""

    either: tuple[str, ...] = ()
    """Subject or address."""
    subjects: tuple[tuple[str, str], ...] = ()
    """Provider and subject."""
    emails: tuple[str, ...] = ()
    unclear: tuple[int, ...] = ()
    """Places in `users` of subjects of nobody knows which provider."""


def people_of(to: To, route: Route | None, schema: Schema) -> People:
    """Read `users`: an address, `PROVIDER:SUBJECT`, or a subject alone where the provider is certain.

    `route`: where the rule counts; None: on several.
    """
    providers = schema.identity.providers
    if len(providers) <= 1:
        return People(either=tuple(to.users))
    certain = _certain(to.providers or ([route.provider] if route is not None and route.provider else []))
    subjects: list[tuple[str, str]] = []
    emails: list[str] = []
    unclear: list[int] = []
    for index, user in enumerate(to.users):
        name, colon, subject = user.partition(":")
        if colon and name in providers:
            subjects.append((name, subject))
        elif "@" in user:
            emails.append(user)
        elif certain:
            subjects.append((certain, user))
        else:
            unclear.append(index)
    return People(subjects=tuple(subjects), emails=tuple(emails), unclear=tuple(unclear))


def _certain(named: Collection[str]) -> str:
    return next(iter(named)) if len(named) == 1 else ""
