"""MSVD, with either kind of descriptions, of clips or of whole films, becomes a corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertitle.pipeline.corpus import Corpus, Item
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.msvd import import_msvd

# A YouTube id may begin with a hyphen and hold underscores.
SQUIRREL, CAT, MAN = "-4wsuPCjDBc_5_15", "74tRCYS_534_49_57", "zzit5b_-ukg_5_20"

TEXT = f"""\
# Descriptions of the clips

{SQUIRREL} a squirrel is eating a peanut in it's shell
{SQUIRREL} a chipmunk is eating
{CAT} a cat sleeps
{MAN} a man rides a motorcycle
"""
TABLE = """\
VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description
-4wsuPCjDBc,5,15,588702,unverified,55,Slovene,Papagaj se umiva.

-4wsuPCjDBc,5,15,362812,clean,56,English,a squirrel is eating a peanut in it's shell
-4wsuPCjDBc,5,15,362812,unverified,56,English,a chipmunk is eating
74tRCYS_534,49,57,362812,clean,30,English,"a cat sleeps"
74tRCYS_534,49,57,362812,unverified,30,English,
zzit5b_-ukg,5,20,362812,clean,30,English,a man rides a motorcycle
"""
MAPPING = f"{SQUIRREL} vid1\n{CAT} vid1201\n{MAN} vid1301\n"
CLIPS: dict[str, object] = {f"YouTubeClips/{name}.avi": None for name in (SQUIRREL, CAT, MAN)}


@pytest.mark.parametrize(
    ("descriptions", "num_empty"),
    [
        ({"AllVideoDescriptions.txt": TEXT}, 0),
        ({"AllVideoDescriptions.txt": "\ufeff" + TEXT.replace("\n", "\r\n")}, 0),
        ({"MSR Video Description Corpus.csv": TABLE}, 1),
        ({"video_corpus.csv": "\ufeff" + TABLE.replace("\n", "\r\n")}, 1),
    ],
)
def test_clips_english_sentences_and_the_mappings_splits_are_taken_over(
    descriptions: dict[str, object], num_empty: int, lay_out, tmp_path: Path
) -> None:
    source = lay_out({**CLIPS, **descriptions, "youtube_mapping.txt": MAPPING})
    report = import_msvd(source, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.items() == [
        Item(name, str(source / "YouTubeClips" / f"{name}.avi"), "video")
        for name in (SQUIRREL, CAT, MAN)
    ]
    assert [(e.id, e.split, e.targets) for e in corpus.examples()] == [
        (
            SQUIRREL,
            "train",
            ("a squirrel is eating a peanut in it's shell", "a chipmunk is eating"),
        ),
        (CAT, "val", ("a cat sleeps",)),
        (MAN, "test", ("a man rides a motorcycle",)),
    ]
    assert ("1 empty captions left out" in report.notes) == bool(num_empty)


def test_a_segment_of_the_film_stands_in_for_an_absent_clip(lay_out, tmp_path: Path) -> None:
    source = lay_out(
        {
            "AllVideoDescriptions.txt": TEXT,
            f"clips/{SQUIRREL}.avi": None,
            "films/-4wsuPCjDBc.mp4": None,
            "films/74tRCYS_534.webm": None,
        }
    )
    report = import_msvd(source, tmp_path / "corpus")
    assert Corpus(tmp_path / "corpus").items() == [
        Item(SQUIRREL, str(source / f"clips/{SQUIRREL}.avi"), "video"),
        Item(CAT, str(source / "films/74tRCYS_534.webm"), "video", 49.0, 57.0),
    ]
    assert report.missing == (MAN,)


def test_without_the_mapping_the_names_sorted_give_its_split(lay_out, tmp_path: Path) -> None:
    names = [f"{n:011}_0_9" for n in range(1970)]
    text = "".join(f"{name} a man runs\n" for name in reversed(names))
    source = lay_out({"AllVideoDescriptions.txt": text, **{f"{n}.avi": None for n in names}})
    report = import_msvd(source, tmp_path / "corpus")
    splits = [e.split for e in Corpus(tmp_path / "corpus").examples()]
    assert splits == ["train"] * 1200 + ["val"] * 100 + ["test"] * 670
    assert not any("not the published split" in note for note in report.notes)
    (source / f"{names[7]}.avi").unlink()
    report = import_msvd(source, tmp_path / "corpus")
    assert report.notes[-1].startswith("not the published split: 1969 of 1970 clips are there")


def test_described_clips_that_the_mapping_lacks_are_left_out(lay_out, tmp_path: Path) -> None:
    mapping = f"{SQUIRREL} vid1\n"
    source = lay_out({**CLIPS, "AllVideoDescriptions.txt": TEXT, "youtube_mapping.txt": mapping})
    report = import_msvd(source, tmp_path / "corpus")
    assert report.items == 1
    assert "2 described clips left out: youtube_mapping.txt lacks them" in report.notes


HEADER = TABLE.partition("\n")[0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"AllVideoDescriptions.txt": "a squirrel"},
            r"line 1: 'a squirrel', expected <id>_<start>",
        ),
        ({"AllVideoDescriptions.txt": "a_1_2\n"}, r"line 1: 'a_1_2' has no caption"),
        ({"AllVideoDescriptions.txt": "a_9_2 b\n", "a.avi": None}, "line 1: 'a_9_2' ends before"),
        ({"video_corpus.csv": "VideoID,Start\na,1\n"}, "line 1: has no column End, Language, Desc"),
        ({"video_corpus.csv": f"{HEADER}\n\na,1,2,3"}, r"line 3: .*, expected VideoID,Start"),
        ({"video_corpus.csv": f"{HEADER}\na,x,2,3,c,4,English,d"}, r"line 2: .*, expected VideoID"),
        ({"video_corpus.csv": f"{HEADER}\n{'a' * 200_000}"}, "line 2: "),
        ({"AllVideoDescriptions.txt": TEXT, "youtube_mapping.txt": "a vid1"}, "line 1: 'a vid1'"),
        (
            {"AllVideoDescriptions.txt": TEXT, "youtube_mapping.txt": f"{CAT} vid1\n{MAN} vid1"},
            "line 2: vid1 is taken by .*youtube_mapping.txt: line 1",
        ),
        (
            {"AllVideoDescriptions.txt": TEXT, "youtube_mapping.txt": "a_1_2 vid1"},
            "youtube_mapping.txt: line 1: 'a_1_2' has no caption",
        ),
        ({}, r"has neither AllVideoDescriptions\.txt nor MSR Video"),
    ],
)
def test_what_cannot_be_read_is_named(
    files: dict[str, object], message: str, lay_out, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        import_msvd(lay_out(files), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
