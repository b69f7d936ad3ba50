"""Rendered clips of moving shapes, whose captions depend on the order of the frames.

They need no download and can be rendered in any number. The motions in every clip are known, so a
caption can be checked for what it says about their order.
"""

from intertitle.pipeline.importers.synthetic.captions import judge_order, parse_motions
from intertitle.pipeline.importers.synthetic.write import render_corpus

__all__ = ["judge_order", "parse_motions", "render_corpus"]
