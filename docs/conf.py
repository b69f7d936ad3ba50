"""Sphinx configuration; `make docs` builds the site into docs/_build/html."""

project = "Intertitle"
author = "The Intertitle contributors"
copyright = "2026, The Intertitle contributors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Intertitle"
myst_heading_anchors = 3
