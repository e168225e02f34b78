"""Who is known: from the running proxy, by its operator's socket, or from a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from zt_proxy.cli.operator_client import Refused, Unreachable, ask, socket_of
from zt_proxy.core.session import ClaimValue


class Known(msgspec.Struct, frozen=True, omit_defaults=True):
    """One person, as far as rules may ask."""

    subject: str = ""
    email: str | None = None
    name: str | None = None
    provider: str = ""
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    claims: dict[str, ClaimValue] = {}

    @property
    def shown(self) -> str:
        return self.email or self.subject


def of_proxy(config: Path, socket: Path | None = None) -> Iterator[Known]:
    """Everybody whom the running proxy knows, page by page. Raises Unreachable and Refused."""
    path, after = socket_of(config, socket), ""
    while True:
        page = ask(path, "GET", "/people" + (f"?{urlencode({'after': after})}" if after else ""))
        yield from (msgspec.convert(_plain(person), Known) for person in page["people"])
        after = page["following"]
        if not after:
            return


def find(config: Path, user: str, provider: str = "", socket: Path | None = None) -> tuple[Known | None, str]:
    """The person with this address or subject; None, and why, when nobody can be found or several are."""
    try:
        found = [
            person
            for person in of_proxy(config, socket)
            if user in {person.email, person.subject} and provider in {"", person.provider}
        ]
    except (Unreachable, Refused) as error:
        return None, str(error)
    if not found:
        return None, f"the running proxy does not know `{user}`"
    if len(found) > 1:
        return None, f"{len(found)} people are called `{user}`: say --provider"
    return found[0], ""


def of_file(path: Path) -> list[Known]:
    """A list of people in YAML or JSON; `user` may stand for `email` and `subject`. Raises ValueError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
    people = found.get("people") if isinstance(found, dict) else found
    if not isinstance(people, list):
        raise ValueError(f"{path}: expected a list of people, such as `- {{email: ann@example.com, groups: [staff]}}`")
    try:
        return [msgspec.convert(_plain(each), Known) for each in people]
    except msgspec.ValidationError as error:
        raise ValueError(f"{path}: {error}") from error


def _plain(person: Any) -> Any:
    if not isinstance(person, dict) or "user" not in person:
        return person
    user = str(person["user"])
    return {("email" if "@" in user else "subject"): user, **{k: v for k, v in person.items() if k != "user"}}
