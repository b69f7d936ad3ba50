"""HTML pages that need nothing else: no network, no files beside them; and text for MLflow's."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """A page of this folder."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def as_markdown(text: str) -> str:
    """A text that MLflow's page shows as it was typed, not as Markdown or HTML would have it."""
    return re.sub(r"([\\`*_{}\[\]])", r"\\\1", html.escape(text, quote=False))


def inlined(pictures: Mapping[str, bytes]) -> dict[str, str]:
    """JPEGs by key, as a page holds them."""
    return {key: base64.b64encode(jpeg).decode() for key, jpeg in pictures.items()}
