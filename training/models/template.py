"""Words that are seen, put into one sentence: the way before recurrent networks, as a baseline.

Farhadi et al. 2010, "Every Picture Tells a Story", and Kulkarni et al. 2011, "Baby Talk", detect
things and places and fill them into a sentence made by hand. Here words are detected by multinomial
logistic regression on the image, and the sentence is the training captions' own:

    <article> THING <link> <article> PLACE        "a dog in a field"

What a word is good for is read from the company it keeps in the captions, with no tagger and no
list of words. The article is the commonest word of all, which the vocabulary names first. A noun is
a word that often follows the article (not "running") and after which a phrase is over: the caption
ends, or a word comes that hardly ever follows the article (not "brown", which "dog" follows). A
PLACE is a noun that captions end with, a THING one that they go on after, and the link is the word
that stands before most articles inside a caption.

These frequencies are parameters, which the same loss teaches in the same steps, and not counts kept
aside: so they are averaged over workers and over steps and lie in checkpoints as all weights do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, pad

from training.data.batch import Batch
from training.data.tokenizer import BOS_ID, EOS_ID, SPECIAL
from training.models.captioner import Captioner, mean_over_frames

ARTICLE = len(SPECIAL)
# Shares of a noun's occurrences at least: behind the article, and at the end of a phrase.
OFTEN_OPENED, MOSTLY_CLOSING = 0.2, 0.75
# A word seen behind the article less often than this closes the phrase before it.
HARDLY_OPENED = 0.1
# What is no noun comes after all that are, and still in order where none is known.
NO_NOUN = 1e4
# A search that has no room for the whole sentence must be able to end it.
EARLY_END = 1e-6
# Log-odds lie some units apart, and an optimizer moves a weight by hardly more than its rate.
LOG_ODDS = 10.0


@dataclass(frozen=True, slots=True)
class TemplateState:
    """The image [B, E], the sentences that were chosen, [B, L], and how much of them is written."""

    image: Tensor
    sentences: Tensor
    written: int

    def select(self, rows: Tensor) -> TemplateState:
        return TemplateState(
            self.image.index_select(0, rows), self.sentences.index_select(0, rows), self.written
        )


class Template(Captioner[TemplateState]):
    """One frame of a sentence, filled with the two words that the image shows most clearly.

    The loss is that of the words of a caption, each told from the image alone, whatever stands
    before it. `step` writes the chosen sentence: the probability is on its next word.

    Arguments as of `Captioner`. The image is projected to `embedding_size`, and a word is told by
    its embedding: the regression is of that rank. There is nothing recurrent: `cell`, `num_layers`
    and `hidden_size` are without effect.

    Attributes:
        company: in columns, the log-odds, divided by `LOG_ODDS`, that a word follows the article,
            that a phrase is over after it and that the caption is; and the logit of its being the
            one before an article inside a caption, [V, 4].
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(told_size=sizes["embedding_size"], **sizes)
        self.company = nn.Parameter(torch.zeros(sizes["vocabulary"], 4))
        # A word is no noun until captions say so.
        nn.init.constant_(self.company.detach()[:, 0], -2 / LOG_ODDS)

    def vocabulary_parameters(self) -> dict[str, Literal["source", "target"]]:
        return {**super().vocabulary_parameters(), "company": "target"}

    def _company(self) -> tuple[Tensor, ...]:
        """The columns as they are meant: opened, closing, last, linking."""
        return (LOG_ODDS * self.company).unbind(1)

    def hidden(self, batch: Batch) -> Tensor:
        image = self.look(mean_over_frames(batch))
        return image[:, None].expand(-1, batch.targets.shape[1], -1)

    def penalty(self, batch: Batch, hidden: Tensor) -> Tensor:
        """The surprise at the company of each word of the captions."""
        opened, closing, last, linking = self._company()
        said = pad(batch.targets, (1, 0), value=BOS_ID)
        places = torch.arange(said.shape[1] - 2, device=said.device)
        # Without <eos>, so that each has a word or an end behind it.
        counts = places < batch.num_targets[:, None] - 1
        before, word, after = (part[counts] for part in (said[:, :-2], said[:, 1:-1], said[:, 2:]))
        is_last = after == EOS_ID
        with torch.no_grad():
            is_closing = is_last | (opened[after].sigmoid() < HARDLY_OPENED)
        links = before[(word == ARTICLE) & (before != BOS_ID)]
        return (
            _surprise(opened[word], before == ARTICLE)
            + _surprise(closing[word], is_closing)
            + _surprise(last[word], is_last)
            - torch.log_softmax(linking, 0)[links].sum()
        )

    def start(self, batch: Batch) -> TemplateState:
        image = self.look(mean_over_frames(batch))
        return TemplateState(image, self._fill(image), 0)

    def _fill(self, image: Tensor) -> Tensor:
        """The sentences about some images [B, E], with their <eos>, [B, 6]."""
        opened, closing, last, linking = self._company()
        is_noun = (opened.sigmoid() >= OFTEN_OPENED) & (closing.sigmoid() >= MOSTLY_CLOSING)
        is_noun[ARTICLE] = False
        seen = torch.log_softmax(self.logits(image).float(), -1) - NO_NOUN * ~is_noun
        seen[:, : len(SPECIAL)] = -torch.inf
        thing = (seen + logsigmoid(-last)).argmax(-1, keepdim=True)
        place = (seen + logsigmoid(last)).scatter(1, thing, -torch.inf).argmax(-1, True)
        link = linking[ARTICLE:].argmax() + ARTICLE
        article, end = (torch.full_like(thing, token) for token in (ARTICLE, EOS_ID))
        return torch.cat([article, thing, link.expand_as(thing), article, place, end], 1)

    def advance(self, state: TemplateState, token_ids: Tensor) -> tuple[Tensor, TemplateState]:
        return state.image, TemplateState(state.image, state.sentences, state.written + 1)

    def step(self, state: TemplateState, token_ids: Tensor) -> tuple[Tensor, TemplateState]:
        at = min(state.written, state.sentences.shape[1] - 1)
        image, after = self.advance(state, token_ids)
        probabilities = image.new_zeros(len(image), len(self.company))
        probabilities[:, EOS_ID] = EARLY_END
        probabilities.scatter_(1, state.sentences[:, at : at + 1], 1 - EARLY_END)
        return probabilities.log(), after


def _surprise(log_odds: Tensor, is_so: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(log_odds, is_so.to(log_odds.dtype), reduction="sum")
