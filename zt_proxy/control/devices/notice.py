"""The mail about a new device. Everything in it is ours, a name of the configuration, or made coarse."""

from urllib.parse import quote

from zt_proxy.control.devices.mail import Letter
from zt_proxy.control.devices.store import Device
from zt_proxy.control.devices.times import written
from zt_proxy.pages.render import render

SUBJECT = "New sign-in"


def new_device(
    *, to: str, device: Device, at: float, portal_host: str, portal_origin: str, token: str, days: int
) -> Letter:
    """Tells that somebody signed in with `device` at `at`; the link with `token` asks, and does nothing by itself."""
    values = {
        "site": portal_host,
        "label": device.label,
        "address": device.address,
        "at": written(at),
        "link": f"{portal_origin}/.zt/not-me?token={quote(token)}",
        "me": f"{portal_origin}/.zt/me",
        "days": days,
    }
    return Letter(
        to=to,
        subject=f"{SUBJECT} at {portal_host}",
        text=render("mail_new_device.txt", **values).decode(),
        html=render("mail_new_device.html", **values).decode(),
    )
