"""Steps in a browser: fields, buttons, and what is done in each tab of the page."""

from __future__ import annotations

import base64
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.jobs.serving.tiny_models import GERMAN

SCRIPT = "<img src=x onerror=document.title='stolen'>"
# Where screenshots go, if they are to be looked at.
SCREENSHOTS = os.environ.get("INTERTITLE_SCREENSHOTS")


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
        # Colours fade when the theme changes.
        time.sleep(0.5)
        size = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        options = {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        image = browser.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
        (Path(SCREENSHOTS) / f"{name}.png").write_bytes(base64.b64decode(image))


# What is done in each tab, until its answer is there, and what is there then.


def caption(page: webdriver.Chrome, picture: Path) -> None:
    open_tab(page, "Caption")
    if not all_of(page, "#it-caption-picture img"):
        upload(page, "#it-caption-picture", picture)
    answer_caption(page)


def answer_caption(page: webdriver.Chrome) -> None:
    """Caption what is chosen; the challenger's caption, which comes last, is emptied before."""
    before = set(all_of(page, "#it-caption-challenger h3"))
    click(page, "#it-caption")
    until(page, lambda: set(all_of(page, "#it-caption-challenger h3")) - before)


def ask(page: webdriver.Chrome, picture: Path) -> None:
    open_tab(page, "Ask")
    upload(page, "#it-ask-picture", picture)
    write(page, "#it-ask-question", f"what colour {SCRIPT}")
    click(page, "#it-ask")
    until(page, lambda: len(all_of(page, "#it-ask-answers li")) == 5)


def translate(page: webdriver.Chrome, picture: Path) -> None:
    open_tab(page, "Translate")
    write(page, "#it-translate-source", GERMAN[2])
    click(page, "#it-translate")
    until(page, lambda: all_of(page, "#it-translate-text .it-word"))


def write_text(page: webdriver.Chrome, picture: Path) -> None:
    open_tab(page, "Write")
    write(page, "#it-write-prefix", "a")
    click(page, "#it-write")
    until(page, lambda: len(all_of(page, "#it-write-text span[title]")) == 120)


def answer_batch(page: webdriver.Chrome, picture: Path) -> None:
    archive = picture.with_name("pictures.zip")
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(picture, "a/first.png")
        opened.writestr(f"{SCRIPT}.png", "nothing")
    open_tab(page, "Batch")
    # The models that read files come after the translator.
    choose(page, "captioner")
    find(page, "#it-batch-files input[type=file]").send_keys(str(archive))
    until(page, lambda: "pictures" in text_of(page, "#it-batch-files"))
    click(page, "#it-batch")
    until(page, lambda: all_of(page, "#it-batch-table table"))


def show_card(page: webdriver.Chrome, picture: Path) -> None:
    open_tab(page, "Model card")
    choose(page, "captioner")
    until(page, lambda: "captioning" in text_of(page, "#it-card"))


def compare(page: webdriver.Chrome, picture: Path) -> None:
    open_tab(page, "Which is better")
    write(page, "#it-vote-source", GERMAN[0])
    click(page, "#it-vote-run")
    until(page, lambda: text_of(page, "#it-vote-left") and text_of(page, "#it-vote-right"))


TABS = {
    "Caption": (caption, "#it-caption-challenger h3"),
    "Ask": (ask, "#it-ask-answers li"),
    "Translate": (translate, "#it-translate-text .it-word"),
    "Write": (write_text, "#it-write-text span[title]"),
    "Batch": (answer_batch, "#it-batch-table table"),
    "Model card": (show_card, "#it-card table"),
    "Which is better": (compare, "#it-vote-right .it-text"),
}
