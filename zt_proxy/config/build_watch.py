"""Watching and alerts, as control declares them."""

from pathlib import Path

from zt_proxy.config import stages
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_watch import FirstUse, Volume
from zt_proxy.config.secrets import resolve
from zt_proxy.control.settings import (
    FirstUseSettings,
    Respond,
    Response,
    VolumeSettings,
    WatchSettings,
    WebhookSettings,
)
from zt_proxy.core.types import Mode
from zt_proxy.link.locks import LockEffect


def watch(schema: Schema, base: Path) -> WatchSettings:
    """Of a file that was checked."""
    volume, first_use = schema.watch.volume, schema.watch.first_use
    return WatchSettings(
        volume=VolumeSettings(
            factor=volume.factor,
            floor=volume.floor,
            requests_floor=volume.requests_floor,
            learn=volume.learn,
            windows=tuple(sorted(volume.windows)),
            response=_response(schema, volume),
        ),
        first_use=FirstUseSettings(first_use.learn, _response(schema, first_use)),
        changes=frozenset(() if schema.watch.respond == "off" else schema.watch.changes.kinds),
        webhooks=tuple(
            WebhookSettings(
                url=hook.url,
                secret=resolve(hook.secret, base),
                ca=base / Path(hook.ca).expanduser() if hook.ca else None,
                timeout=hook.timeout,
            )
            for hook in schema.alerts.webhooks
        ),
        quiet=schema.alerts.quiet,
    )


def insecure(schema: Schema) -> list[str]:
    """Names of the `insecure_…` keys that are on."""
    return [
        f"alerts.webhooks.{number}.insecure_http"
        for number, hook in enumerate(schema.alerts.webhooks)
        if hook.insecure_http
    ]


def _response(schema: Schema, detector: Volume | FirstUse) -> Response:
    """What the detector says goes before what `watch` says; before `stage: monitor` nothing locks."""
    default = "enforce" if schema.stage == "monitor" else "report"
    respond = Respond(detector.respond or schema.watch.respond or default)
    if schema.watch.respond == "off":
        respond = Respond.OFF
    elif respond is Respond.ENFORCE and stages.watch(schema) is Mode.REPORT:
        respond = Respond.REPORT
    lasts = None if isinstance(detector.for_, str) else detector.for_
    return Response(respond, LockEffect(detector.effect), lasts)
