"""Detected words in a sentence template: the approach before recurrent networks, as a baseline.

Farhadi et al. 2010, "Every Picture Tells a Story", and Kulkarni et al. 2011, "Baby Talk", detect
things and places and insert them into a hand-written sentence. Here words are detected by
multinomial logistic regression on the image, and the sentence is derived from the training
captions:

    <article> THING <link> <article> PLACE        "a dog in a field"

The role of a word is estimated from the words next to it in the captions, without a tagger and
without word lists. The article is the most common word, which is the first of the vocabulary. A
noun is a word that often follows the article (not "running") and after which a phrase ends: the
caption ends, or a word follows that rarely follows the article (not "brown", which "dog" follows).
A PLACE is a noun that captions end with, a THING a noun that captions continue after, and the link
is the word that precedes most articles inside a caption.

These frequencies are parameters that are trained by the same loss in the same steps, not separate
counts: they are therefore averaged over workers and over steps and stored in checkpoints like all
weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, pad

from intertitle.training.data.batch import Batch
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, SPECIAL
from intertitle.training.models.captioners.inject import Captioner, mean_over_frames

ARTICLE = len(SPECIAL)
# Minimum shares of a noun's occurrences: after the article, and at the end of a phrase.
OFTEN_OPENED, MOSTLY_CLOSING = 0.2, 0.75
# A word ends the phrase before it if a smaller share of its occurrences follows the article.
RARE_OPENING = 0.1
# Ranks words that are not nouns after all nouns, and keeps their order if there is no noun.
NO_NOUN = 1e4
# Probability of <eos>: a search without room for the complete sentence must be able to end it.
EARLY_END = 1e-6
# Log-odds differ by several units, and an optimizer changes a weight by about its learning rate.
LOG_ODDS = 10.0


@dataclass(frozen=True, slots=True)
class TemplateState:
    """The state of the captioner, for B rows.

    Attributes:
        image: projected image, [B, E].
        sentences: tokens of the filled templates, [B, L].
        written: number of tokens that are already generated.
    """

    image: Tensor
    sentences: Tensor
    written: int

    def select(self, rows: Tensor) -> TemplateState:
        return TemplateState(
            self.image.index_select(0, rows), self.sentences.index_select(0, rows), self.written
        )


class Template(Captioner[TemplateState]):
    """A sentence template, filled with the two words that the image shows most clearly.

    The loss is the negative log-likelihood of the words of a caption, each predicted from the image
    alone, independent of the words before it. `step` generates the filled template: its next token
    has almost all of the probability.

    The image is projected to `embedding_size`, and a word is predicted by the product with its
    embedding: the regression has that rank. Nothing is recurrent: `cell`, `num_layers` and
    `hidden_size` have no effect.

    Args:
        sizes: arguments of `Captioner`.

    Attributes:
        company: parameters of each word, [V, 4]. The first three columns are log-odds, divided by
            `LOG_ODDS`: that the word follows the article, that a phrase ends after it, and that the
            caption ends after it. The fourth is the logit, on the same scale, of the word that
            precedes an article inside a caption.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(told_size=sizes["embedding_size"], **sizes)
        self.company = nn.Parameter(torch.zeros(sizes["vocabulary"], 4))
        # A word is not a noun until captions show that it is.
        nn.init.constant_(self.company.detach()[:, 0], -2 / LOG_ODDS)

    def vocabulary_parameters(self) -> dict[str, Literal["source", "target"]]:
        return {**super().vocabulary_parameters(), "company": "target"}

    def _cooccurrence(self) -> tuple[Tensor, ...]:
        """Return the unscaled columns of `company`: opened, closing, last, linking."""
        return (LOG_ODDS * self.company).unbind(1)

    def forward(self, batch: Batch) -> Tensor:
        image = self.project_features(mean_over_frames(batch))
        return image[:, None].expand(-1, batch.targets.shape[1], -1)

    def auxiliary_loss(self, batch: Batch, hidden: Tensor) -> Tensor:
        """Return the negative log-likelihood of the neighbors of each word of the captions."""
        opened, closing, last, linking = self._cooccurrence()
        tokens = pad(batch.targets, (1, 0), value=BOS_ID)
        previous, word, following = tokens[:, :-2], tokens[:, 1:-1], tokens[:, 2:]
        positions = torch.arange(word.shape[1], device=tokens.device)
        # Without <eos>, so that each word is followed by a word or by <eos>. Other places have the
        # weight 0: to select would need their number, which only the device knows.
        is_valid = (positions < batch.target_lengths[:, None] - 1).to(opened.dtype)
        is_last = following == EOS_ID
        with torch.no_grad():
            is_closing = is_last | (opened[following].sigmoid() < RARE_OPENING)
        is_link = is_valid * ((word == ARTICLE) & (previous != BOS_ID))
        return (
            _bernoulli_nll(opened[word], previous == ARTICLE, is_valid)
            + _bernoulli_nll(closing[word], is_closing, is_valid)
            + _bernoulli_nll(last[word], is_last, is_valid)
            - (torch.log_softmax(linking, 0)[previous] * is_link).sum()
        )

    def start(self, batch: Batch) -> TemplateState:
        image = self.project_features(mean_over_frames(batch))
        return TemplateState(image, self._fill(image), 0)

    def _fill(self, image: Tensor) -> Tensor:
        """Fill the template for images [B, E]: sentences that end with <eos>, [B, 6]."""
        opened, closing, last, linking = self._cooccurrence()
        is_noun = (opened.sigmoid() >= OFTEN_OPENED) & (closing.sigmoid() >= MOSTLY_CLOSING)
        is_noun[ARTICLE] = False
        log_probs = torch.log_softmax(self.logits(image).float(), -1) - NO_NOUN * ~is_noun
        log_probs[:, : len(SPECIAL)] = -torch.inf
        thing = (log_probs + logsigmoid(-last)).argmax(-1, keepdim=True)
        place = (log_probs + logsigmoid(last)).scatter(1, thing, -torch.inf).argmax(-1, True)
        link = linking[ARTICLE:].argmax() + ARTICLE
        article, end = (torch.full_like(thing, token) for token in (ARTICLE, EOS_ID))
        return torch.cat([article, thing, link.expand_as(thing), article, place, end], 1)

    def advance(self, state: TemplateState, token_ids: Tensor) -> tuple[Tensor, TemplateState]:
        return state.image, TemplateState(state.image, state.sentences, state.written + 1)

    def step(self, state: TemplateState, token_ids: Tensor) -> tuple[Tensor, TemplateState]:
        position = min(state.written, state.sentences.shape[1] - 1)
        image, new_state = self.advance(state, token_ids)
        probabilities = image.new_zeros(len(image), len(self.company))
        probabilities[:, EOS_ID] = EARLY_END
        probabilities.scatter_(1, state.sentences[:, position : position + 1], 1 - EARLY_END)
        return probabilities.log(), new_state


def _bernoulli_nll(log_odds: Tensor, is_so: Tensor, weights: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(
        log_odds, is_so.to(log_odds.dtype), weights, reduction="sum"
    )
