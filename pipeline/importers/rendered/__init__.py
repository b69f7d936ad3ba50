"""Small clips of moving shapes, whose captions hang on the order of the frames.

No download, any number of them, and the truth of every clip is known, so a caption can be judged by
what it says about time.
"""

from pipeline.importers.rendered.captions import judge_order, parse_motions
from pipeline.importers.rendered.write import render_corpus

__all__ = ["judge_order", "parse_motions", "render_corpus"]
