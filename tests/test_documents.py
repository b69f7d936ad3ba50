"""The examples of the documents run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody who reads one document after the other."""
    return tmp_path_factory.mktemp("reader")


@pytest.mark.parametrize(
    ("document", "on_ray"), [("README.md", True), ("docs/python-api.md", False)]
)
def test_python_examples_run(
    document: str,
    on_ray: bool,
    ray_cluster: None,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    if not on_ray:
        request.getfixturevalue("trains_in_process")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    names: dict[str, object] = {}
    for example in _PYTHON.findall((ROOT / document).read_text("utf-8")):
        exec(compile(example, document, "exec"), names)
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    "document", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))
)
def test_links_between_documents_lead_to_files(document: str) -> None:
    path = ROOT / document
    for target in _LINK.findall(path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 200


def test_no_page_has_the_name_of_a_page_that_sphinx_writes() -> None:
    assert not {"genindex", "search"} & {path.stem for path in ROOT.glob("docs/*.md")}
