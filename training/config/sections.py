"""The sections of a recipe other than the model.

Values are validated here, once; classes in other modules take plain arguments.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from intertitle.training.config.models import PositiveFloat, PositiveInt, Section, Share

MetricTokenizer = Literal[
    "auto", "13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "flores101", "flores200"
]
TokenizerKind = Literal["captions", "words", "characters", "subwords", "labels"]

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
# Text of a label, which may be written as a number.
LabelText = Annotated[str, Field(coerce_numbers_to_str=True)]
# Lower ones sample the most probable token, as this one does but for exact ties.
MIN_TEMPERATURE = 1e-3


class TokenizerConfig(Section):
    """Settings of a tokenizer, which is built from the training split only.

    Attributes:
        kind: "captions": lower-cased words without punctuation, as caption metrics count them;
            "words": words and punctuation; "characters"; "subwords": byte pair encoding (Sennrich
            et al. 2016); "labels": the whole text is one token.
        min_count: minimum count of a token in the vocabulary of captions, words and characters;
            rarer tokens are unknown.
        size: maximum size of the vocabulary of subwords, or maximum number of labels.
        max_tokens: maximum number of tokens of a text; longer texts are truncated, except running
            text.
        vectors: file of word vectors that the embeddings of the tokens begin with, in the text
            format of GloVe, word2vec and fastText, or None.
    """

    kind: TokenizerKind = "captions"
    min_count: PositiveInt = 5
    size: PositiveInt = 8000
    max_tokens: PositiveInt = 30
    vectors: str | None = None


class OptimizerConfig(Section):
    """Settings of the optimizer.

    Attributes:
        learning_rate: maximum learning rate.
        weight_decay: decoupled weight decay, as in AdamW.
        warmup: share of the training over which the learning rate rises from 0.
        decay: schedule of the learning rate after the warm-up: cosine decay to 0, or constant.
        clip_norm: maximum norm of the gradient.
        label_smoothing: share of the target's probability spread over the vocabulary.
        average_decay: decay per step of the running average of the weights, which is evaluated and
            saved; 0 uses the weights themselves.
    """

    learning_rate: PositiveFloat = 1e-3
    weight_decay: NotNegative = 0.0
    warmup: Share = 0.05
    decay: Literal["cosine", "none"] = "cosine"
    clip_norm: PositiveFloat = 5.0
    label_smoothing: Share = 0.1
    average_decay: Share = 0.0


class TrainingConfig(Section):
    """Settings of the training loop: length, batches, checkpoints, early stopping.

    Attributes:
        seed: seed of the weights, the batches and the dropout.
        epochs: maximum number of epochs.
        max_steps: maximum number of steps, or None.
        batch_tokens: number of frames and tokens of one batch over all workers, padding included.
        batch_tokens_per_worker: the same for each worker, or None; the batch then grows with the
            number of workers, and the learning rate with the square root of the batch, relative
            to the recipe's batch_tokens and learning_rate.
        window: number of tokens of a window of running text; a batch has batch_tokens / window
            parallel streams, and the state is carried from each window to the next.
        accumulate: number of parts that a worker splits its share of a batch into and computes one
            after the other, to use less memory; the step is the same.
        sampler: name of the sampler that selects the rows of each batch: "tokens", or one that a
            package adds; running text is always read in its order.
        pool_batches: size in batches of the pool within which sentences are grouped by length.
        checkpoint_steps: number of steps between checkpoints; a checkpoint is also saved after each
            epoch.
        monitor: validation metric that decides which epoch is best.
        patience: number of epochs without improvement after which training stops.
        step_timeout_s: number of seconds without progress after which a worker is stopped and the
            training continues from its last checkpoint.
        precision: number format of the network's products; "float16" scales the loss so that small
            gradients do not vanish, and "auto" is float32. Weights are float32 in every case.
        features_on: memory that training batches take their features from, on a GPU: that of the
            GPU ("device"), or that of the host, from which a thread copies them ahead; "auto" uses
            the GPU if they take less than a quarter of its free memory.
    """

    seed: Count = 0
    epochs: PositiveInt = 10
    max_steps: PositiveInt | None = None
    batch_tokens: PositiveInt = 2048
    batch_tokens_per_worker: PositiveInt | None = None
    window: PositiveInt = 100
    accumulate: PositiveInt = 1
    sampler: str = "tokens"
    pool_batches: PositiveInt = 100
    checkpoint_steps: PositiveInt = 1000
    monitor: str = "nats_per_token"
    patience: PositiveInt = 5
    step_timeout_s: PositiveFloat = 1800.0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    features_on: Literal["auto", "host", "device"] = "auto"


class SearchConfig(Section):
    """Settings of the search that generates sentences.

    Attributes:
        method: "beam": the most probable sentences of a beam search; "sample": random sampling.
        beam_size: K; 1 is greedy search.
        length_penalty: exponent of the length: a sentence's score is its log-probability / length
            ** length_penalty.
        coverage_penalty: factor by which beam search lowers the score of a sentence that omits a
            part of the source (Wu et al. 2016, their beta); must be 0 for a model without
            attention.
        patience: factor of beam_size: beam search stops once patience * beam_size sentences are
            finished, or earlier if no other can beat them. A larger value is slower and rarely
            finds a better sentence.
        consensus: temperature of the reranking of a beam's sentences by their mutual agreement,
            each with the weight exp(score / consensus); 0 ranks them by their scores.
        max_tokens: maximum number of tokens of a sentence.
        min_tokens: minimum number of tokens of a sentence.
        no_repeat_ngram: length of the n-grams that may occur only once in a sentence; 0 disables
            the rule.
        prefix: text that every sentence begins with.
        temperature: temperature of sampling; below 1, probable tokens become more probable.
        top_k: number of most probable tokens to sample from; 0 means all.
        top_p: total probability of the smallest set of most probable tokens to sample from.
        seed: seed of sampling; the samples of an example depend only on it and on the example's
            number.
    """

    method: Literal["beam", "sample"] = "beam"
    beam_size: PositiveInt = 3
    length_penalty: NotNegative = 0.7
    coverage_penalty: NotNegative = 0.0
    patience: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    consensus: NotNegative = 0.0
    max_tokens: PositiveInt = 30
    min_tokens: Count = 0
    no_repeat_ngram: Count = 0
    prefix: str = ""
    temperature: Annotated[float, Field(ge=MIN_TEMPERATURE, allow_inf_nan=False)] = 1.0
    top_k: Count = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Count = 0

    def describe(self) -> str:
        """Return the name of the search, such as "beam search of 3"."""
        if self.method == "sample":
            return "sampling"
        return "greedy search" if self.beam_size == 1 else f"beam search of {self.beam_size}"

    @field_validator("min_tokens")
    @classmethod
    def _fits(cls, value: int, info: ValidationInfo) -> int:
        max_tokens = info.data.get("max_tokens", value)
        if value > max_tokens:
            raise ValueError(f"allowed: at most max_tokens, {max_tokens}")
        return value


class ObjectiveConfig(Section):
    """Settings of the training objective.

    Attributes:
        kind: "teacher_forcing": the correct tokens before each token as input; "consensus": the
            same, but each sentence is weighted by its agreement with the other references of its
            example (Phan et al. 2017); "scheduled_sampling": an increasing share of the input
            tokens is replaced by the model's own predictions (Bengio et al. 2015); "self_critical":
            the model's own sentences, with their CIDEr as the reward (Rennie et al. 2017).
        max_share: share of replaced tokens at the end of training, for scheduled sampling.
    """

    kind: Literal["teacher_forcing", "consensus", "scheduled_sampling", "self_critical"] = (
        "teacher_forcing"
    )
    max_share: Share = 0.25


class EvaluationConfig(Section):
    """Settings of the evaluation metrics.

    Attributes:
        tokenizer: tokenizer of the metrics that count words, by its name in sacreBLEU; "auto"
            selects it by the target language of the corpus. With "13a", captions are evaluated with
            the PTB tokenizer.
        background: label of the frames in which nothing happens, whose segments do not count in the
            edit score and the F1 of segments; None counts all segments.
    """

    tokenizer: MetricTokenizer = "auto"
    background: LabelText | None = None
