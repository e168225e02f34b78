"""Watching and alerts: that somebody can be told, and that what is asked for can be found."""

from urllib.parse import urlsplit

from zt_proxy.config import names, stages
from zt_proxy.config.certificates import check_authorities
from zt_proxy.config.check import Checking
from zt_proxy.config.schema_watch import Hook, Volume
from zt_proxy.control.locks.manager import LONGEST
from zt_proxy.core.types import Mode

SHORTEST_SECRET = 16
LONGEST_WINDOW = 86_400.0
MOST_WINDOWS = 4
MOST_HOOKS = 16


def check(checking: Checking) -> None:
    schema, problems = checking.schema, checking.problems
    for each in (schema.watch, schema.watch.volume, schema.watch.first_use):
        if each.respond == "enforce" and stages.watch(schema) is Mode.REPORT:
            key = "mode" if schema.mode == "report" else "stage"
            said = f"`respond: enforce` locks nobody while the file has `{key}: {getattr(schema, key)}`"
            problems.warning(each.at("respond"), said)
    _volume(checking, schema.watch.volume)
    for model in (schema.watch.first_use, schema.alerts):
        checking.not_zero(model)
    for detector in (schema.watch.volume, schema.watch.first_use):
        if isinstance(detector.for_, float) and not 0 < detector.for_ <= LONGEST:
            problems.error(detector.at("for"), "a lock of no use", "more than `0s`, up to `3650d`, or `until-reviewed`")
    if len(schema.alerts.webhooks) > MOST_HOOKS:
        problems.error(schema.alerts.at("webhooks"), f"more than {MOST_HOOKS} webhooks")
    for hook in schema.alerts.webhooks:
        _hook(checking, hook)


def _volume(checking: Checking, volume: Volume) -> None:
    problems = checking.problems
    checking.not_zero(volume)
    if not volume.windows or len(volume.windows) > MOST_WINDOWS:
        if volume.complete("windows"):
            problems.error(volume.at("windows"), f"`windows` has {len(volume.windows)} items", "1 to 4")
        return
    for index, length in enumerate(volume.windows):
        if not 0 < length <= LONGEST_WINDOW:
            problems.error(volume.at("windows", index), "a window of no use", "more than `0s`, up to `1d`")
    if len(set(volume.windows)) < len(volume.windows):
        problems.error(volume.at("windows"), "a window is written twice")


def _hook(checking: Checking, hook: Hook) -> None:
    problems = checking.problems
    checking.not_zero(hook)
    secret = checking.secret(hook.at("secret"), hook.secret, "the webhook's secret")
    if secret is not None and len(secret) < SHORTEST_SECRET:
        problems.error(hook.at("secret"), "the webhook's secret is short", f"{SHORTEST_SECRET} characters or more")
    checking.attempt(hook.at("url"), _address, hook.url, hook.insecure_http)
    if hook.ca is not None:
        checking.attempt(hook.at("ca"), check_authorities, checking.path(hook.ca))
        if hook.url.startswith("http:"):
            problems.error(hook.at("ca"), "`ca` for an address without TLS")
    if hook.insecure_http:
        problems.warning(hook.at("insecure_http"), "alerts go out without TLS (insecure_http)")


def _address(url: str, insecure: bool) -> None:
    """Raises ValueError for what is no address of a webhook."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"`{url}` is no URL") from None
    if parts.scheme not in {"https", "http"} or not parts.hostname or port == 0:
        raise ValueError(f"`{url}` is no address of a webhook; expected one such as `https://siem.example/hook`")
    if parts.username is not None or parts.fragment or any(character.isspace() for character in url):
        raise ValueError("a webhook's address has neither credentials nor a fragment; the secret goes into `secret`")
    if parts.scheme == "http" and not (insecure or names.is_loopback(parts.hostname)):
        raise ValueError(f"`{url}` is without TLS; expected `https://`, or `insecure_http: true`")
