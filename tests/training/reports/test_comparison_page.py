"""The page of a comparison, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from intertitle.pipeline.corpus import Corpus
from intertitle.training.data.item_views import thumbnails_of
from intertitle.training.evaluation.metrics.sufficient_stats import combine
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.evaluation.significance import Difference
from intertitle.training.reports.compare import ChangedExample, compare
from intertitle.training.reports.comparison_page import interval_bar, mark_words, render
from intertitle.training.reports.evaluations import EvaluatedRun
from intertitle.training.tracking.store.client import RunRef
from tests.browser import open_browser
from tests.training.evaluations import captions, spoiled
from tests.training.metric_names import TRANSLATION_METRICS

HOSTILE = """<script>document.title = "taken"</script> & "quoted" <b>"""
NUM_EXAMPLES = 24


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with open_browser() as started:
        yield started


def measured(name: str, samples: list[Sample], corpus: Path) -> EvaluatedRun:
    scorer = Scorer("caption", [sample.references for sample in samples])
    scores = scorer.score([sample.hypothesis for sample in samples], TRANSLATION_METRICS)
    record = EvaluationRecord(
        {
            "split": "val",
            "data": {"corpus": str(corpus)},
            "search": {"beam_size": 3},
            "ensemble": [name],
            "signatures": scores.signatures,
        },
        tuple(sample.id for sample in samples),
        tuple(sample.item_key for sample in samples),
        tuple(sample.source for sample in samples),
        tuple(sample.hypothesis for sample in samples),
        tuple(sample.references for sample in samples),
        combine("sacrebleu", scores.statistics["sacrebleu"]),
        np.full(len(samples), np.nan),
        scores.statistics,
    )
    return EvaluatedRun(RunRef(name, name, "sqlite:///none"), {"recipe": name}, record)


@pytest.fixture(scope="module")
def page(clips: Path, browser: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    keys = [item.key for item in Corpus(clips).items()][:NUM_EXAMPLES]
    samples = [
        replace(sample, item_key=key)
        for sample, key in zip(captions(NUM_EXAMPLES), keys, strict=True)
    ]
    better, worse = spoiled(samples, 0.2), spoiled(samples, 0.6, seed=2)
    worse[0] = replace(worse[0], hypothesis=HOSTILE)
    comparison = compare([measured("<first>", worse, clips), measured("second", better, clips)])
    file = tmp_path_factory.mktemp("page") / "compare.html"
    # One item can't be read.
    file.write_text(render(comparison, thumbnails_of(Corpus(clips), keys[1:])), "utf-8")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(file.as_uri())
    return file


def shown(browser: webdriver.Chrome) -> list[str]:
    """The ids of the examples that are seen."""
    articles = browser.find_elements(By.CSS_SELECTOR, "article")
    seen = [article for article in articles if article.is_displayed()]
    return [one.find_element(By.CLASS_NAME, "id").text for one in seen]


def test_the_page_loads_no_other_file(page: Path, browser: webdriver.Chrome) -> None:
    asked = [
        entry["message"]
        for entry in browser.get_log("performance")
        if "Network.requestWillBeSent" in entry["message"]
    ]
    others = [message for message in asked if '"url":"data:' not in message]
    assert [page.name in message for message in others] == [True]
    assert browser.get_log("browser") == []
    pictures = browser.find_elements(By.TAG_NAME, "img")
    assert pictures
    for picture in pictures:
        assert int(picture.get_property("naturalWidth") or 0) > 0


def test_predictions_are_escaped(page: Path, browser: webdriver.Chrome) -> None:
    assert browser.title == "<first>, second on val"
    says = [one.get_property("textContent") for one in browser.find_elements(By.TAG_NAME, "dd")]
    assert HOSTILE in says


def test_better_and_worse_examples_are_in_tabs_and_filtered(
    page: Path, browser: webdriver.Chrome
) -> None:
    better, worse = browser.find_elements(By.CSS_SELECTOR, "[role=tab]")
    up = shown(browser)
    worse.click()
    down = shown(browser)
    assert up and down and not set(up) & set(down)
    assert (better.get_attribute("aria-selected"), worse.get_attribute("aria-selected")) == (
        "false",
        "true",
    )
    better.click()
    assert shown(browser) == up

    words = browser.find_element(By.CSS_SELECTOR, "input")
    words.send_keys(up[-1].upper())
    assert up[-1] in shown(browser)
    assert len(shown(browser)) < len(up)
    assert browser.find_element(By.CLASS_NAME, "count").text == f"{len(shown(browser))} shown"
    words.clear()
    words.send_keys("nobody says this")
    assert shown(browser) == []
    words.clear()
    words.send_keys(" ")
    assert shown(browser) == up


def test_examples_are_sorted(page: Path, browser: webdriver.Chrome) -> None:
    sort = Select(browser.find_element(By.CSS_SELECTOR, "select"))
    orders = {}
    for option in ("change", "first", "other"):
        sort.select_by_value(option)
        seen = [one for one in browser.find_elements(By.TAG_NAME, "article") if one.is_displayed()]
        values = [float(one.get_attribute(f"data-{option}") or "nan") for one in seen]
        assert values == sorted(values, reverse=True)
        orders[option] = shown(browser)
    assert orders["change"] != orders["first"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_follows_the_colour_scheme(
    page: Path, browser: webdriver.Chrome, scheme: str
) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    page_is, ink_is = (
        browser.execute_script(f"return getComputedStyle(document.body).{name}")
        for name in ("backgroundColor", "color")
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= 390
    brightness = [
        sum(map(int, c[c.index("(") + 1 : -1].split(", ")[:3])) for c in (page_is, ink_is)
    ]
    assert (brightness[0] > brightness[1]) == (scheme == "light")


def test_the_words_that_differ_are_marked(page: Path, browser: webdriver.Chrome) -> None:
    assert mark_words("a red dog runs", "a dog runs fast") == [
        ("a", False),
        ("red", True),
        ("dog runs", False),
    ]
    assert mark_words("", "a dog") == []
    texts = browser.find_elements(By.CSS_SELECTOR, "dd.text")
    marks = browser.find_elements(By.CSS_SELECTOR, "dd.text mark")
    assert len(texts) == 2 * len(browser.find_elements(By.TAG_NAME, "article"))
    assert len(marks) > 0
    # Marking changes no text.
    said = {str(one.get_property("textContent")) for one in texts}
    assert all("  " not in text and text == text.strip() for text in said)


def test_an_interval_is_drawn_around_zero(page: Path, browser: webdriver.Chrome) -> None:
    bar = interval_bar(Difference(1.0, -1.0, 2.0, 0.2))
    assert (bar.low, bar.value, bar.high) == (27.0, 73.0, 96.0)
    equal = interval_bar(Difference(0.0, 0.0, 0.0, 1.0))
    assert (equal.low, equal.value, equal.high) == (50.0, 50.0, 50.0)
    drawn = browser.find_elements(By.CSS_SELECTOR, "svg.interval")
    rows = browser.find_elements(By.CSS_SELECTOR, "td.verdict")
    assert len(drawn) == len(rows) > 0


def test_runs_of_a_server_are_linked_and_equal_predictions_are_one_line(clips: Path) -> None:
    samples = captions(NUM_EXAMPLES)
    runs = [measured("first", samples, clips), measured("second", samples, clips)]
    url = "https://mlflow.example/#/experiments/1/runs/2"
    comparison = compare(runs)
    example = ChangedExample("one", None, None, ("a dog",), ("a cat", "a cat"), (0.0, 1.0), 1.0)
    (against,) = comparison.against_baseline
    comparison = replace(comparison, against_baseline=(replace(against, better=(example,)),))
    html = render(comparison, {}, {"second": url})
    assert html.count(f'<a href="{url}">second</a>') == 1
    assert html.count("a cat") == 1
    assert "<dt>both</dt><dd>a cat</dd>" in html
