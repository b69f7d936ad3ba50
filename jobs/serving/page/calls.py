"""Calls of the server as shell commands and Python, and the buttons that copy them."""

from __future__ import annotations

import json
from shlex import quote
from typing import Any

import gradio as gr

from intertitle.jobs.serving.config import TOKEN_VARIABLE
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.page.desk import Desk

# Copies a text with the address of this page, which comes before all that the user has written;
# browsers have a clipboard on HTTPS and localhost.
_COPY = """(text, label) => {
  const call = text.replace('ORIGIN', () => location.origin);
  if (navigator.clipboard) navigator.clipboard.writeText(call); else window.prompt('Copy', call);
  return label.replace('Copy', 'Copied');
}"""


class CallButtons:
    """Buttons that copy the last call of a tab.

    Args:
        desk: models and records of the server.
    """

    def __init__(self, desk: Desk) -> None:
        self._has_token = desk.has_token
        # The texts are hidden: they are for the clipboard.
        self.texts = [gr.Textbox(visible=False) for _ in range(2)]
        with gr.Row():
            for text, kind in zip(self.texts, ("curl", "Python"), strict=True):
                button = gr.Button(
                    f"Copy as {kind}", size="sm", elem_classes=f"it-copy-{kind.lower()}"
                )
                button.click(None, [text, button], button, js=_COPY, api_visibility="private")

    def of(self, name: str, query: Query) -> list[str]:
        """Return the values of `texts` for a call."""
        return [curl_call(name, query, self._has_token), python_call(name, query, self._has_token)]


def curl_call(name: str, query: Query, has_token: bool) -> str:
    """Return the shell command of a call; ORIGIN stands for the address of the server."""
    url = f"ORIGIN/v1/models/{name}/predict"
    token = f' -H "Authorization: Bearer ${TOKEN_VARIABLE}"' if has_token else ""
    if query.file is None:
        body = json.dumps(_body(query), ensure_ascii=False)
        return f"curl {url}{token} -H 'Content-Type: application/json' -d {quote(body)}"
    # The file's own name may have characters that mean something to curl.
    fields = [f"file=@{_file_name(query)}", *(f"{k}={v}" for k, v in _form(query).items())]
    return f"curl {url}{token} " + " ".join(
        f"{'-F' if n == 0 else '--form-string'} {quote(field)}" for n, field in enumerate(fields)
    )


def python_call(name: str, query: Query, has_token: bool) -> str:
    """Return the Python code of a call; ORIGIN stands for the address of the server."""
    lines = ["import requests", "", f'url = "ORIGIN/v1/models/{name}/predict"']
    arguments = ""
    if has_token:
        lines[0] = "import os\n\nimport requests"
        lines.append(f"headers = {{'Authorization': 'Bearer ' + os.environ[{TOKEN_VARIABLE!r}]}}")
        arguments = ", headers=headers"
    if query.file is None:
        lines.append(f"answer = requests.post(url, json={_body(query)!r}{arguments})")
    else:
        lines += [
            f"with open({_file_name(query)!r}, 'rb') as file:",
            f"    answer = requests.post(url, files={{'file': file}}, data={_form(query)!r}"
            f"{arguments})",
        ]
    return "\n".join([*lines, "print(answer.json())", ""])


def _options(query: Query) -> dict[str, Any]:
    return query.options.model_dump(exclude_defaults=True, exclude_none=True)


def _body(query: Query) -> dict[str, Any]:
    inputs = [] if query.text is None else [{"text": query.text}]
    return {"inputs": inputs, **_options(query)}


def _form(query: Query) -> dict[str, str]:
    fields = {} if query.text is None else {"text": query.text}
    values = {
        k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in _options(query).items()
    }
    return fields | values


def _file_name(query: Query) -> str:
    """Return a name that stands for the file; the path on the caller's machine is unknown."""
    suffix = query.name.rpartition(".")[2]
    return f"file.{suffix}" if suffix.isalnum() else "file"
