"""A browser uses each tab of the page: picture in, words out, map shown, vote counted."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import requests
from gradio import processing_utils
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from intertitle.jobs.serving.config import ModelConfig, ServerConfig, hash_token
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.page.desk import Desk
from intertitle.pipeline.corpus import Corpus
from intertitle.training.tracking.artifacts import read_table
from intertitle.training.tracking.store.client import open_client
from tests.jobs.serving.page.browsing import (
    SCRIPT,
    TABS,
    all_of,
    answer_batch,
    answer_caption,
    ask,
    call_as,
    caption,
    click,
    compare,
    find,
    open_tab,
    shoot,
    show_card,
    tab,
    text_of,
    translate,
    until,
    visible,
    wait_for_models,
    write,
    write_text,
)
from tests.jobs.serving.page.conftest import page_server
from tests.jobs.serving.tiny_models import GERMAN, answerer, log_run, noise_png

# Records the answers that an element shows over time.
RECORD = """const element = arguments[0]; window.texts = [];
new MutationObserver(() => {
  const text = element.querySelector('.it-text')?.innerText;
  if (text && window.texts.at(-1) !== text) window.texts.push(text);
}).observe(element, {childList: true, subtree: true, characterData: true});"""


@pytest.fixture(scope="module")
def page(browser: webdriver.Chrome, url: str) -> webdriver.Chrome:
    browser.get(url)
    wait_for_models(browser)
    browser.execute_script("navigator.clipboard.writeText = (text) => { window.copied = text }")
    return browser


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pictures") / f"{SCRIPT.replace('/', '')}.png"
    file.write_bytes(noise_png(3, (320, 240)))
    return file


def test_it_loads_nothing_from_elsewhere(page: webdriver.Chrome, url: str) -> None:
    until(page, lambda: tab(page, "Which is better"))
    requested = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in page.get_log("performance")
        if 'Network.requestWillBeSent"' in entry["message"]
    ]
    assert requested
    assert not [item for item in requested if not item.startswith((url, "data:", "blob:"))]
    assert not [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_caption_grows_and_its_words_show_where_the_model_looked(
    page: webdriver.Chrome, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Desk.stream

    async def slow(desk: Desk, name: str, query: Query) -> AsyncIterator[dict[str, Any]]:
        async for event in stream(desk, name, query):
            yield event
            await asyncio.sleep(0.5)

    monkeypatch.setattr(Desk, "stream", slow)
    open_tab(page, "Caption")
    page.execute_script(RECORD, find(page, "#it-caption-text"))
    caption(page, picture)
    # The result of beam search takes the place of the words that have come one by one.
    texts = page.execute_script("return window.texts")
    assert len(texts) >= 3 and texts[1].startswith(texts[0])
    words = all_of(page, "#it-caption-text .it-word")
    maps = all_of(page, "#it-caption-text .it-map")
    assert len(words) == len(maps) >= 2
    assert {item.value_of_css_property("opacity") for item in maps} == {"0"}
    ActionChains(page).move_to_element(words[0]).perform()
    until(page, lambda: maps[0].value_of_css_property("opacity") == "1")
    # The keyboard reaches the next word, and a screen reader reads where the model looked.
    page.execute_script("arguments[0].focus()", words[0])
    ActionChains(page).send_keys(Keys.TAB).perform()
    until(page, lambda: maps[1].value_of_css_property("opacity") == "1")
    label = words[1].get_attribute("aria-label")
    assert label.startswith(f"{words[1].text}: ")
    assert label.endswith(("left", "centre", "right"))
    assert len(all_of(page, "#it-caption-nbest meter")) == 5
    challenger = all_of(page, "#it-caption-challenger .it-word")
    assert [word.text for word in challenger] == [word.text for word in words]
    assert page.title == "Intertitle"


def test_the_calls_that_are_copied_answer_as_the_page(
    page: webdriver.Chrome, picture: Path, tmp_path: Path
) -> None:
    caption(page, picture)
    (tmp_path / "file.png").write_bytes(picture.read_bytes())
    shown = [item.text for item in all_of(page, "#it-caption-nbest .it-label")]
    assert len(shown) == 5
    curl, python = (call_as(page, kind) for kind in ("curl", "python"))
    answered = subprocess.run(["bash", "-c", curl], cwd=tmp_path, capture_output=True, check=True)
    assert [c["text"] for c in json.loads(answered.stdout)["results"][0]["nbest"]] == shown
    code = [sys.executable, "-c", python]
    answered = subprocess.run(code, cwd=tmp_path, capture_output=True, check=True)
    assert all(repr(text) in answered.stdout.decode() for text in shown)


def test_feedback_becomes_a_corpus(page: webdriver.Chrome, picture: Path, feedback: Path) -> None:
    caption(page, picture)
    write(page, ".it-correction", "a red ball")
    click(page, ".it-wrong")
    until(page, lambda: "corpus of feedback: 1" in text_of(page, ".it-feedback"))
    corpus = Corpus(feedback / "captioner")
    (example,) = corpus.examples()
    assert example.targets == ("a red ball",)
    (item,) = corpus.items()
    assert corpus.locate(item).read_bytes().startswith(b"\x89PNG")


def test_an_example_that_is_a_video_takes_the_place_of_the_picture(page: webdriver.Chrome) -> None:
    open_tab(page, "Caption")
    open_tab(page, "Video")
    until(page, lambda: visible(page, "button.gallery-item")).click()
    until(page, lambda: all_of(page, "#it-caption-video video"))
    answer_caption(page)
    assert len(all_of(page, "#it-caption-text .it-film img")) == 2
    shoot(page, "Video")
    open_tab(page, "Picture")
    assert not all_of(page, "#it-caption-picture img")


def test_a_question_about_a_picture_has_five_answers_as_bars(
    page: webdriver.Chrome, picture: Path
) -> None:
    ask(page, picture)
    assert len(all_of(page, "#it-ask-answers li")) == 5
    assert "<img" in call_as(page, "python")

    # The picture stays for the next question, which is sent by the Enter key.
    def ask_again() -> bool:
        # A question that comes before the page has noticed the answer is ignored.
        write(page, "#it-ask-question", "what\n")
        return "'text': 'what'" in call_as(page, "python")

    until(page, ask_again)
    assert len(all_of(page, "#it-ask-answers li")) == 5
    # No other model differs in what it uses.
    assert not [item for item in all_of(page, "#it-ask-uses") if item.is_displayed()]
    assert page.title == "Intertitle"


def test_a_translation_shows_its_alignment(page: webdriver.Chrome, picture: Path) -> None:
    translate(page, picture)
    words = all_of(page, "#it-translate-text .it-word")
    source = all_of(page, "#it-translate-text .it-source span")
    assert [word.text for word in source] == GERMAN[2].lower().split()
    ActionChains(page).move_to_element(words[0]).perform()
    clear = "rgba(0, 0, 0, 0)"
    until(page, lambda: any(w.value_of_css_property("background-color") != clear for w in source))


def test_a_language_model_writes_and_surprise_is_coloured(
    page: webdriver.Chrome, picture: Path
) -> None:
    write_text(page, picture)
    (first, *_) = all_of(page, "#it-write-text span[title]")
    assert first.text == "a" and first.get_attribute("title").endswith(" bits")


def test_many_files_become_a_table(page: webdriver.Chrome, picture: Path) -> None:
    answer_batch(page, picture)
    first, second = all_of(page, "#it-batch-table tbody tr")
    assert "a/first.png" in first.text and first.find_elements(By.TAG_NAME, "img")
    assert SCRIPT in second.text and "an image or a video" in second.text
    links = until(page, lambda: all_of(page, "#it-batch-results a[href*=answers]"))
    names = {link.get_attribute("href") for link in links}
    written = {Path(name).suffix: requests.get(name, timeout=60).text for name in names}
    rows = [json.loads(line) for line in written[".jsonl"].splitlines()]
    assert [row["input"] for row in rows] == ["a/first.png", f"{SCRIPT}.png"]
    assert rows[0]["text"] and rows[1]["error"]
    table = csv.DictReader(io.StringIO(written[".csv"]))
    assert [row["text"] for row in table] == [row["text"] for row in rows]
    assert page.title == "Intertitle"


def test_a_card_describes_the_model(page: webdriver.Chrome, picture: Path) -> None:
    open_tab(page, "Model card")
    until(page, lambda: "translation" in text_of(page, "#it-card"))
    for line in ("It has not been evaluated.", "Licence\nnot stated", "Limits\nnot stated"):
        assert line in text_of(page, "#it-card")
    show_card(page, picture)
    card = text_of(page, "#it-card")
    for line in (
        "Data\n700 items, 1,400 references, 560 train examples; features of efficientnet_lite0",
        "Limits\ntrained on noise",
        "Licence\nCC0-1.0",
        "Scores on the split test",
    ):
        assert line in card
    scores, best, worst = all_of(page, "#it-card table")
    _, value, interval = scores.find_elements(By.CSS_SELECTOR, "tbody tr:first-child td")
    low, _, high = interval.text.partition(" to ")
    assert float(low) <= float(value.text) <= float(high)
    assert best.text.startswith("Best examples, by ")
    assert worst.text.startswith("Worst examples, by ")
    assert len(worst.find_elements(By.CSS_SELECTOR, "tbody tr")) == 3


def test_votes_between_two_models_are_counted(
    page: webdriver.Chrome, picture: Path, store: str
) -> None:
    compare(page, picture)
    assert "translator" not in text_of(page, "#it-vote-left")
    next(e for e in all_of(page, "button") if e.text == "Equal").click()
    until(page, lambda: "1 vote: 50 % for" in text_of(page, "#it-vote-status"))
    # A second vote for the same answers does not count.
    next(e for e in all_of(page, "button") if e.text == "Equal").click()
    until(page, lambda: "one for each pair" in text_of(page, "#it-vote-status"))
    client = open_client(store)
    experiment = client.get_experiment_by_name("serving").experiment_id
    (run,) = client.search_runs([experiment], "attributes.run_name LIKE 'votes-%'")
    (row,) = read_table(Path(client.download_artifacts(run.info.run_id, "votes.json")))
    assert (row["vote"], row["input"]) == ("tie", GERMAN[0])


@pytest.mark.parametrize("title", TABS)
def test_a_tab_fits_a_phone_and_a_screen(page: webdriver.Chrome, picture: Path, title: str) -> None:
    use, answer = TABS[title]
    open_tab(page, title)
    if not all_of(page, answer):
        use(page, picture)
    try:
        for width in (390, 1440):
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            for theme in ("light", "dark"):
                dark = f"document.body.classList.toggle('dark', {json.dumps(theme == 'dark')})"
                page.execute_script(dark)
                page.execute_script("window.scrollTo(0, 0)")
                assert page.execute_script("return document.documentElement.scrollWidth") <= width
                shoot(page, f"{title}-{width}-{theme}")
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_script("document.body.classList.remove('dark')")


def test_the_colours_are_those_of_the_system(browser: webdriver.Chrome, url: str) -> None:
    for theme in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": theme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(url)
        wait_for_models(browser)
        is_dark = browser.execute_script("return document.body.classList.contains('dark')")
        assert is_dark is (theme == "dark")


def test_no_url_is_fetched_in_place_of_an_upload(
    page: webdriver.Chrome, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    async def record(path: str, folder: str) -> str:
        fetched.append(path)
        return path

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", record)
    settings = requests.get(f"{url}/config").json()
    for call in settings["dependencies"]:
        if call["backend_fn"] and call["queue"] is False:
            # An example is chosen, for which Gradio makes a new component.
            body = {"fn_index": call["id"], "data": [0], "session_hash": "x"}
            assert requests.post(f"{url}/gradio_api/run/predict", json=body).status_code == 200
    for number in range(len(settings["dependencies"])):
        inputs = settings["dependencies"][number]["inputs"]
        file = {"path": "http://example.org/a.png", "meta": {"_type": "gradio.FileData"}}
        body = {"fn_index": number, "data": [file] * len(inputs), "session_hash": "x"}
        requests.post(f"{url}/gradio_api/queue/join", json=body)
    requests.get(f"{url}/gradio_api/queue/data?session_hash=x", timeout=60)
    assert not fetched


def test_a_switch_answers_with_the_question_or_the_picture_alone(
    browser: webdriver.Chrome, config: ServerConfig, picture: Path, tmp_path: Path
) -> None:
    used = {"both": "Question and picture", "question": "Question alone", "image": "Picture alone"}
    models = []
    for uses in used:
        log_run(tmp_path, uses, answerer(uses))
        models.append(ModelConfig(name=uses, spec=uses))
    changes = {
        "page": True,
        "models": tuple(models),
        "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db",
    }
    with page_server(config.model_copy(update=changes)) as started:
        browser.get(started)
        wait_for_models(browser)
        browser.execute_script("navigator.clipboard.writeText = (text) => { window.copied = text }")
        ask(browser, picture)
        choices = all_of(browser, "#it-ask-uses label")
        assert [choice.text for choice in choices] == list(used.values())
        shoot(browser, "Ask with a choice of inputs")
        for uses, label in [*used.items()][::-1]:
            next(e for e in all_of(browser, "#it-ask-uses label") if e.text == label).click()

            def asked(name: str = uses) -> bool:
                click(browser, "#it-ask")
                return f"/v1/models/{name}/predict" in call_as(browser, "curl")

            until(browser, asked)
            assert len(all_of(browser, "#it-ask-answers li")) == 5


def test_a_browser_gives_the_token_as_a_password(
    browser: webdriver.Chrome, config: ServerConfig
) -> None:
    token = "correct-horse-battery"
    changes = {"page": True, "models": config.models[:1], "token_sha256": hash_token(token)}
    with page_server(config.model_copy(update=changes)) as started:
        browser.get(started)
        assert not all_of(browser, "button[role=tab]")
        # What is typed into the browser's question for a password.
        browser.get(started.replace("//", f"//anybody:{token}@") + "/v1/models")
        browser.get(started)
        wait_for_models(browser)
        # The tabs are those of the task.
        tabs = [e.text for e in all_of(browser, "button[role=tab]") if e.is_displayed()]
        assert tabs == ["Translate", "Batch", "Model card"]
        write(browser, "#it-translate-source", GERMAN[2])
        click(browser, "#it-translate")
        until(browser, lambda: all_of(browser, "#it-translate-text .it-word"))
