"""Corpus of videos and images (items) and of the texts to learn (examples).

On disk, a corpus is a folder with `items.parquet` and `examples.parquet`. All tasks use the same
schema: an example of captioning has an item and reference captions, an example of translation a
source and a target, and so on. Features contain no text, so new captions require no new features.
"""

from intertitle.pipeline.corpus.members import Member, parse_member
from intertitle.pipeline.corpus.reader import Corpus, absolute_uri, locate
from intertitle.pipeline.corpus.schema import (
    CORPUS_FORMAT,
    EXAMPLE_SCHEMA,
    PINS,
    TABLES,
    Example,
    Item,
    Kind,
    examples_of,
    items_of,
)
from intertitle.pipeline.corpus.text import clean_text
from intertitle.pipeline.corpus.writer import name_target_language, write_corpus

__all__ = [
    "CORPUS_FORMAT",
    "EXAMPLE_SCHEMA",
    "PINS",
    "TABLES",
    "Corpus",
    "Example",
    "Item",
    "Kind",
    "Member",
    "absolute_uri",
    "clean_text",
    "examples_of",
    "items_of",
    "locate",
    "name_target_language",
    "parse_member",
    "write_corpus",
]
