"""A browser uses each tab of the page: picture in, words out, map shown, vote counted."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from gradio import processing_utils
from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from intertitle.jobs.serving.config import ServerConfig, hash_token
from intertitle.pipeline.corpus import Corpus
from intertitle.training.tracking.artifacts import read_table
from intertitle.training.tracking.store.client import open_client
from tests.jobs.serving.page.conftest import page_server
from tests.jobs.serving.tiny_models import GERMAN, noise_png

SCRIPT = "<img src=x onerror=document.title='stolen'>"
# Where screenshots go, if they are to be looked at.
SCREENSHOTS = os.environ.get("INTERTITLE_SCREENSHOTS")


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


def until(browser: webdriver.Chrome, holds: Callable[[], Any], seconds: float = 60) -> Any:
    """The first value of a function that is true."""
    # Elements are replaced, or are not there yet.
    passing = (WebDriverException, StopIteration, IndexError)
    try:
        return WebDriverWait(browser, seconds, 0.1, passing).until(lambda _: holds())
    except TimeoutException as error:
        text = browser.find_element(By.TAG_NAME, "body").text[:2000]
        raise AssertionError(text) from error


def wait_for_models(browser: webdriver.Chrome) -> None:
    """Wait until the page knows which models answer."""
    field = "return document.querySelector('input[role=combobox]')?.value"
    until(browser, lambda: browser.execute_script(field))


def all_of(browser: webdriver.Chrome, css: str) -> list[WebElement]:
    elements: list[WebElement] = browser.find_elements(By.CSS_SELECTOR, css)
    return elements


def visible(browser: webdriver.Chrome, css: str) -> WebElement:
    """The first element that is shown: those of other tabs are hidden."""
    return next(element for element in all_of(browser, css) if element.is_displayed())


def find(browser: webdriver.Chrome, css: str) -> WebElement:
    element: WebElement = until(browser, lambda: all_of(browser, css))[0]
    return element


def text_of(browser: webdriver.Chrome, css: str) -> str:
    return str(find(browser, css).text)


def tab(browser: webdriver.Chrome, label: str) -> WebElement | None:
    return next((e for e in all_of(browser, "button[role=tab]") if e.text == label), None)


def open_tab(browser: webdriver.Chrome, label: str) -> None:
    button = until(browser, lambda: tab(browser, label))
    browser.execute_script("arguments[0].click()", button)
    until(browser, lambda: button.get_attribute("aria-selected") == "true")


def click(browser: webdriver.Chrome, css: str) -> None:
    browser.execute_script("arguments[0].click()", find(browser, css))


def write(browser: webdriver.Chrome, css: str, text: str) -> None:
    field = find(browser, f"{css} textarea, {css} input")
    field.clear()
    field.send_keys(text)


def upload(browser: webdriver.Chrome, css: str, file: Path) -> None:
    find(browser, f"{css} input[type=file]").send_keys(str(file))
    until(browser, lambda: all_of(browser, f"{css} img"))


def choose(browser: webdriver.Chrome, name: str) -> None:
    """Choose a model in the visible tab."""
    visible(browser, "input[role=combobox]").click()
    until(
        browser,
        lambda: next(e for e in all_of(browser, "[role=option]") if e.text.strip().endswith(name)),
    ).click()


def call_as(browser: webdriver.Chrome, kind: str) -> str:
    """The call that a button of the visible tab copies."""
    visible(browser, f".it-copy-{kind}").click()
    return str(until(browser, lambda: browser.execute_script("return window.copied")))


def shoot(browser: webdriver.Chrome, name: str) -> None:
    if SCREENSHOTS:
        browser.save_screenshot(f"{SCREENSHOTS}/{name}.png")


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
    page: webdriver.Chrome, picture: Path
) -> None:
    open_tab(page, "Caption")
    upload(page, "#it-caption-picture", picture)
    click(page, "#it-caption")
    words = until(page, lambda: all_of(page, "#it-caption-text .it-word"))
    maps = all_of(page, "#it-caption-text .it-map")
    assert len(words) == len(maps) >= 2
    assert {item.value_of_css_property("opacity") for item in maps} == {"0"}
    ActionChains(page).move_to_element(words[0]).perform()
    until(page, lambda: maps[0].value_of_css_property("opacity") == "1")
    # The keyboard reaches the next word, and a screen reader reads where the model looked.
    page.execute_script("arguments[0].focus()", words[0])
    ActionChains(page).send_keys(Keys.TAB).perform()
    until(page, lambda: maps[1].value_of_css_property("opacity") == "1")
    shoot(page, "caption")
    label = words[1].get_attribute("aria-label")
    assert label.startswith(f"{words[1].text}: ")
    assert label.endswith(("left", "centre", "right"))
    assert len(all_of(page, "#it-caption-nbest meter")) == 5
    call = call_as(page, "curl")
    assert call.startswith("curl http://127.0.0.1:") and "-F file=@file.png" in call
    assert "nbest=5" in call
    until(page, lambda: visible(page, ".it-copy-curl").text == "Copied as curl")
    assert page.title == "Intertitle"


def test_feedback_becomes_a_corpus(page: webdriver.Chrome, feedback: Path) -> None:
    open_tab(page, "Caption")
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
    before = all_of(page, "#it-caption-text .it-film")
    click(page, "#it-caption")
    until(page, lambda: set(all_of(page, "#it-caption-text .it-film")) - set(before))
    assert len(all_of(page, "#it-caption-text .it-film img")) == 2
    shoot(page, "video")
    open_tab(page, "Picture")
    assert not all_of(page, "#it-caption-picture img")


def test_a_question_about_a_picture_has_five_answers_as_bars(
    page: webdriver.Chrome, picture: Path
) -> None:
    open_tab(page, "Ask")
    upload(page, "#it-ask-picture", picture)
    write(page, "#it-ask-question", "what colour is this")
    click(page, "#it-ask")
    until(page, lambda: len(all_of(page, "#it-ask-answers li")) == 5)
    # The picture stays for the next question, which is sent by the Enter key.
    write(page, "#it-ask-question", "what\n")
    until(page, lambda: call_as(page, "python").find("'text': 'what'") > 0)
    assert len(all_of(page, "#it-ask-answers li")) == 5
    shoot(page, "ask")


def test_a_translation_shows_its_alignment(page: webdriver.Chrome) -> None:
    open_tab(page, "Translate")
    write(page, "#it-translate-source", GERMAN[2])
    click(page, "#it-translate")
    words = until(page, lambda: all_of(page, "#it-translate-text .it-word"))
    source = all_of(page, "#it-translate-text .it-source span")
    assert [word.text for word in source] == GERMAN[2].lower().split()
    ActionChains(page).move_to_element(words[0]).perform()
    clear = "rgba(0, 0, 0, 0)"
    until(page, lambda: any(w.value_of_css_property("background-color") != clear for w in source))
    shoot(page, "translate")


def test_a_language_model_writes_and_surprise_is_coloured(page: webdriver.Chrome) -> None:
    open_tab(page, "Write")
    write(page, "#it-write-prefix", "a")
    click(page, "#it-write")
    until(page, lambda: len(all_of(page, "#it-write-text span[title]")) == 120)
    (first, *_) = all_of(page, "#it-write-text span[title]")
    assert first.text == "a" and first.get_attribute("title").endswith(" bits")
    shoot(page, "write")


def test_many_files_become_a_table(page: webdriver.Chrome, picture: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.write(picture, "a/first.png")
        archive.writestr(f"{SCRIPT}.png", "nothing")
    open_tab(page, "Batch")
    # The models that read files come after the translator.
    choose(page, "captioner")
    find(page, "#it-batch-files input[type=file]").send_keys(str(tmp_path / "pictures.zip"))
    until(page, lambda: "pictures" in text_of(page, "#it-batch-files"))
    click(page, "#it-batch")
    until(page, lambda: "2 answered" in text_of(page, "#it-batch-progress"))
    first, second = all_of(page, "#it-batch-table tbody tr")
    assert "a/first.png" in first.text and first.find_elements(By.TAG_NAME, "img")
    assert SCRIPT in second.text and "an image or a video" in second.text
    until(page, lambda: "answers" in text_of(page, "#it-batch-results"))
    assert page.title == "Intertitle"
    shoot(page, "batch")


def test_a_card_describes_the_model(page: webdriver.Chrome) -> None:
    open_tab(page, "Model card")
    until(page, lambda: "translation" in text_of(page, "#it-card"))
    assert "It has not been evaluated." in text_of(page, "#it-card")
    shoot(page, "card")


def test_votes_between_two_models_are_counted(page: webdriver.Chrome, store: str) -> None:
    open_tab(page, "Which is better")
    write(page, "#it-vote-source", GERMAN[0])
    click(page, "#it-vote-run")
    until(page, lambda: text_of(page, "#it-vote-left") and text_of(page, "#it-vote-right"))
    assert "translator" not in text_of(page, "#it-vote-left")
    shoot(page, "blind")
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


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_a_screen(
    page: webdriver.Chrome, url: str, picture: Path, width: int, theme: str
) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.get(f"{url}/?__theme={theme}")
    wait_for_models(page)
    upload(page, "#it-caption-picture", picture)
    click(page, "#it-caption")
    until(page, lambda: all_of(page, "#it-caption-text .it-word"))
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    is_dark = page.execute_script("return document.body.classList.contains('dark')")
    assert is_dark is (theme == "dark")
    shoot(page, f"page-{width}-{theme}")


def test_no_url_is_fetched_in_place_of_an_upload(
    page: webdriver.Chrome, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    async def record(path: str, folder: str) -> str:
        fetched.append(path)
        return path

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", record)
    settings = requests.get(f"{url}/config").json()
    for number in range(len(settings["dependencies"])):
        inputs = settings["dependencies"][number]["inputs"]
        file = {"path": "http://example.org/a.png", "meta": {"_type": "gradio.FileData"}}
        body = {"fn_index": number, "data": [file] * len(inputs), "session_hash": "x"}
        requests.post(f"{url}/gradio_api/queue/join", json=body)
    requests.get(f"{url}/gradio_api/queue/data?session_hash=x", timeout=60)
    assert not fetched


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
