"""Self-contained HTML pages, which need no network and no other files, and text for MLflow."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """Return a page template of the reports."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def as_markdown(text: str) -> str:
    """Escape a text so that MLflow's page shows it literally, not as Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]])", r"\\\1", html.escape(text, quote=False))


def data_url(pictures: Mapping[str, bytes]) -> dict[str, str]:
    """Encode JPEG images as base64, by key, to embed them in a page."""
    return {key: base64.b64encode(jpeg).decode() for key, jpeg in pictures.items()}
