"""Tables as MLflow's page reads them."""

import json
from pathlib import Path

from intertitle.training.tracking.artifacts import read_table, write_table

JPEG = b"\xff\xd8\xff not much of one"


def test_a_picture_is_a_file_beside_the_table_and_never_twice(tmp_path: Path) -> None:
    rows = [
        {"picture": JPEG, "said": "a man", "score": float("nan")},
        {"picture": None, "said": "ein Hündchen", "score": -0.5},
        {"picture": JPEG, "said": "a man"},
    ]
    write_table(tmp_path, "eval/samples.json", rows)
    table = json.loads((tmp_path / "eval/samples.json").read_text())
    assert table["columns"] == ["picture", "said", "score"]
    pictures, said, scores = zip(*table["data"], strict=True)
    assert said == ("a man", "ein Hündchen", "a man")
    assert scores == (None, -0.5, None)
    assert pictures[0] == pictures[2]
    assert {picture["type"] for picture in pictures} == {"image"}
    files = [tmp_path / picture["compressed_filepath"] for picture in pictures]
    assert files[0].read_bytes() == JPEG
    assert files[1].read_bytes().startswith(b"\x89PNG"), "a cell without a picture has an empty one"
    assert len(list((tmp_path / "table_images/eval/samples").iterdir())) == 2


def test_rows_that_were_logged_are_read_and_written_again(tmp_path: Path) -> None:
    write_table(tmp_path, "samples.json", [{"epoch": 1, "picture": JPEG}])
    before = read_table(tmp_path / "samples.json")
    write_table(tmp_path, "samples.json", [*before, {"epoch": 2, "picture": None}])
    after = read_table(tmp_path / "samples.json")
    assert after[0] == before[0]
    assert [row["epoch"] for row in after] == [1, 2]
    assert (tmp_path / "table_images/samples").is_dir()
