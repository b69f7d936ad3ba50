"""Requests and responses of the HTTP interface."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from intertitle.training.config.sections import MIN_TEMPERATURE

MAX_INPUTS = 64
MAX_TEXT = 20_000

_Width = Annotated[int, Field(ge=1, le=64)]
_Length = Annotated[int, Field(ge=0, le=512)]
_Temperature = Annotated[float, Field(ge=MIN_TEMPERATURE, le=100)]
_Penalty = Annotated[float, Field(ge=0, le=100)]


class SearchFields(BaseModel):
    """Search settings of a request; those that are missing are the recipe's.

    They are those of `intertitle predict`, under the names of its options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    beam: _Width | None = Field(default=None, description="Beam size; 1 is greedy search.")
    length_penalty: _Penalty | None = Field(
        default=None, description="Exponent of the length penalty."
    )
    coverage_penalty: _Penalty | None = None
    patience: Annotated[float, Field(ge=1, le=100)] | None = None
    consensus: _Penalty | None = None
    min_tokens: _Length | None = None
    max_tokens: Annotated[int, Field(ge=1, le=512)] | None = None
    no_repeat_ngram: _Length | None = None
    prefix: Annotated[str, Field(max_length=1000)] | None = Field(
        default=None, description="Text with which each output begins."
    )
    sample: bool | None = Field(default=None, description="Sample instead of beam search.")
    temperature: _Temperature | None = None
    top_k: Annotated[int, Field(ge=0, le=100_000)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        default=None, description="Seed of sampling."
    )


class Options(SearchFields):
    """Options of a request.

    Attributes:
        nbest: number of outputs of each input.
        tokens: whether to return the tokens of each output with their probabilities.
        attention: whether to return the attention weights of the best output.
        frames: whether to return the frames that the model read.
        num_texts: number of texts that a language model writes.
        num_tokens: number of tokens of each of them.
    """

    nbest: _Width = 1
    tokens: bool = False
    attention: bool = False
    frames: bool = False
    num_texts: Annotated[int, Field(ge=1, le=8)] | None = None
    num_tokens: Annotated[int, Field(ge=1, le=400)] | None = None


class Input(BaseModel):
    """One input: a file, a text, or a file and a question.

    Attributes:
        text: text to translate or classify, or question about the file.
        data: file, in base64.
        url: URL of the file, on a host that the server allows.
        name: name of the file, repeated in the answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    data: str | None = Field(default=None, description="File, in base64.")
    url: Annotated[str, Field(max_length=2000)] | None = None
    name: Annotated[str, Field(max_length=255)] = ""


class PredictRequest(Options):
    """Body of a prediction.

    Attributes:
        inputs: inputs; empty for a language model.
    """

    inputs: Annotated[tuple[Input, ...], Field(max_length=MAX_INPUTS)] = ()


class TokenProbability(BaseModel):
    """A token of an output and the model's probability of it."""

    token: str
    probability: float


class Candidate(BaseModel):
    """An output of a model; `score` is that of `intertitle predict`."""

    rank: int
    text: str
    score: float
    tokens: list[TokenProbability] | None = None


class Attention(BaseModel):
    """Attention weights of the best output.

    Attributes:
        tokens: tokens of the output, the last of which stands for the end of the sentence; or, for
            a label, the names of the hops.
        source: tokens of the source, for a model of text.
        shape: frames, rows and columns of the positions, for a model of images.
        weights: weights of each token, over the source tokens or the cells frame by frame.
    """

    tokens: list[str]
    source: list[str] | None = None
    shape: tuple[int, int, int] | None = None
    weights: list[list[float]]


class ErrorBody(BaseModel):
    """Error: the field, its value and what is allowed."""

    field: str
    value: str
    allowed: str


class InputError(ErrorBody):
    """Error of one input; `status` is that of the response if all inputs have errors."""

    status: int = Field(exclude=True)


class Result(BaseModel):
    """Answer to one input, or the reason why there is none.

    `frames` are those that the model read, JPEG in base64, where they are wanted.
    """

    input: str
    text: str = ""
    score: float = 0.0
    nbest: list[Candidate] = []
    attention: Attention | None = None
    frames: list[str] | None = None
    warnings: list[str] = []
    error: InputError | None = None


class AnsweredBy(BaseModel):
    """Model that answered.

    Attributes:
        name: name of the model in URLs.
        spec: reference that the server was started with.
        version: version in the registry; None for a run that was named otherwise.
        run_id: id of the run.
        run: name of the run.
    """

    name: str
    spec: str
    version: str | None
    run_id: str
    run: str


class PredictResponse(BaseModel):
    """Answers in the order of the inputs, and the model that gave them."""

    model: AnsweredBy
    results: list[Result]


class JobResult(Result):
    """Answer to one input of a job, and the model that gave it: an alias may move meanwhile."""

    model: AnsweredBy


class JobStatus(BaseModel):
    """Progress of a job: number of inputs that are answered, and their answers."""

    id: str
    state: Literal["running", "finished", "failed"]
    done: int
    total: int
    results: list[JobResult]
    error: ErrorBody | None


class Feedback(Input):
    """Judgement of an answer; the input is that of the request.

    Attributes:
        run_id: id of the run that answered, as in the response.
        answer: answer of the model.
        good: whether it is right.
        correction: right answer, or "".
    """

    run_id: Annotated[str, Field(max_length=64)]
    answer: Annotated[str, Field(max_length=MAX_TEXT)]
    good: bool
    correction: Annotated[str, Field(max_length=MAX_TEXT)] = ""


class FeedbackCount(BaseModel):
    """Number of examples of the model's corpus of feedback."""

    examples: int


class Score(BaseModel):
    """Score on the newest evaluation; `low` and `high` bound its 95 % interval."""

    metric: str
    split: str
    value: float
    low: float
    high: float


class EvaluatedExample(BaseModel):
    """Example of the newest evaluation, with its score by the metric."""

    input: str
    output: str
    reference: str
    metric: str
    score: float


class ModelSummary(AnsweredBy):
    """Entry of the list of models."""

    task: str
    vocabulary: int


class ModelDetails(ModelSummary):
    """What is known about a model.

    Attributes:
        source_vocabulary: size of the source vocabulary; 0 if the model reads no text.
        visual_input: kind of the features that the model reads.
        has_source: whether the model reads a text.
        output: kind of the output.
        parameters: number of parameters.
        step: number of optimizer steps of the training.
        recipe: recipe of the model.
        search: search settings of the recipe.
        scores: scores of the newest evaluation when the model was loaded.
        best: examples of that evaluation with the best answers.
        worst: examples with the worst answers, worst first.
        signature: MLflow signature: columns of inputs and outputs.
        corpus: path or URL of the corpus that the model was trained on.
        attention: whether the model has attention.
        uses: inputs that the model predicts from, if its recipe chooses them: "both", "question" or
            "image"; otherwise None.
        data: numbers of items, references and examples of the corpus, as the run records them.
        features: backbone and sampling of each feature store of the training.
        limits: tag `limits` of the run; "" if it has none.
        license: tag `license` of the run; "" if it has none.
    """

    source_vocabulary: int
    visual_input: str
    has_source: bool
    output: Literal["sentence", "label", "label_per_frame", "stream"]
    parameters: int
    step: int
    recipe: str
    search: dict[str, Any]
    scores: list[Score]
    best: list[EvaluatedExample]
    worst: list[EvaluatedExample]
    signature: dict[str, Any]
    corpus: str
    attention: bool
    uses: str | None
    data: dict[str, int]
    features: list[str]
    limits: str
    license: str
