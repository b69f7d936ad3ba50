"""Page of a checked corpus: self-contained HTML with thumbnails."""

from __future__ import annotations

from intertitle.jobs.commands.check.wording import EVIDENCE, spread
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.inspection.check.run import CorpusReport
from intertitle.training.data.item_views import thumbnails_of
from intertitle.training.tracking.html import data_url, template

# Numbers of pairs and of unreadable items on the page.
NUM_PAIRS, NUM_PROBLEMS = 60, 100


def render(report: CorpusReport, corpus: Corpus) -> str:
    """Render the page as HTML.

    Args:
        report: result of `check_corpus`.
        corpus: corpus that was checked, for the thumbnails.
    """
    pairs = report.duplicates[:NUM_PAIRS]
    keys = {key for pair in pairs for key in (pair.first, pair.second)}
    examples = corpus.example_table().select(["item_key", "split"]).to_pylist()
    splits: dict[str, set[str]] = {key: set() for key in keys}
    for row in examples:
        if row["item_key"] in splits:
            splits[row["item_key"]].add(row["split"])
    return template("check.html.jinja").render(
        report=report,
        pairs=pairs,
        problems=report.problems[:NUM_PROBLEMS],
        splits={key: ", ".join(sorted(names)) for key, names in splits.items()},
        pictures=data_url(thumbnails_of(corpus, keys)),
        evidence=EVIDENCE,
        spread=spread,
    )
