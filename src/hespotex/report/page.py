"""Pages from the room's templates: one file each, styles inside."""

from __future__ import annotations

from importlib import resources
from typing import Any

_PACKAGE = "hespotex.report"


def template_text(name: str) -> str:
    """A file beside the templates."""
    return (resources.files(_PACKAGE) / "templates" / name).read_text(encoding="utf-8")


def render_page(template: str, *, more_css: str = "", **values: Any) -> str:
    """A template with its values; `css` in it is report.css and what comes after."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = Markup(template_text("report.css") + more_css)
    return environment.get_template(template).render(css=css, **values)
