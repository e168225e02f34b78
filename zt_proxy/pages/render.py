"""Pages of control, with jinja2: everything is escaped, and an unknown name in a template is an error."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from zt_proxy.core.errors import Reason
from zt_proxy.pages.style import BAR, KEY, STYLE, TICK
from zt_proxy.pages.texts import text_of

_TEMPLATES = files("zt_proxy.pages").joinpath("templates")


def _load(name: str) -> str | None:
    file = _TEMPLATES.joinpath(name)
    return file.read_text("utf-8") if file.is_file() else None


_environment = Environment(
    loader=FunctionLoader(_load),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
# Our own constants, not anybody's input: the only markup that is not escaped.
_environment.globals.update(style=Markup(STYLE), tick=Markup(TICK), bar=Markup(BAR), key=Markup(KEY))  # noqa: S704


def render(template: str, **values: Any) -> bytes:
    """A page of `templates/` in UTF-8. Raises jinja2.UndefinedError if a value is missing."""
    return _environment.get_template(template).render(values).encode()


def render_error(
    *,
    status: int,
    reason: Reason,
    request_id: str,
    host: str,
    said: str = "",
    action: tuple[str, str] | None = None,
    note: str = "",
) -> bytes:
    """A page that says what went wrong. `said` is foreign text, shown as a quotation; `action` as in `denial_page`;
    `note` a sentence about this very case."""
    return render(
        "error.html",
        site=host,
        text=text_of(reason),
        status=status,
        reason=reason.value,
        request_id=request_id,
        said=said,
        action=action,
        note=note,
    )
