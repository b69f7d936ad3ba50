"""The Java programs: a line for a sentence whatever it holds, a process however often asked."""

import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from intertitle.training.evaluation.metrics.meteor import (
    METEOR,
    JavaError,
    LineProcess,
    Meteor,
    one_line,
    ptb_tokenize,
)
from intertitle.training.evaluation.metrics.sufficient_stats import combine

LONG = " ".join(f"word{n}" for n in range(10_000))
TORTURE = [
    "a dog\nruns\r\nfast\r",
    "line\u2028paragraph\u2029next\x85column\x0bform\x0cfeed\x1cfile\x1dgroup\x1erecord",
    "one ||| two|||three |||| four",
    "|||",
    "SCORE ||| a ||| b\nEVAL ||| 1",
    "\x00\x01\x02 bell\x07 escape\x1b[31m delete\x7f",
    "half \ud83d and \udc00 pairs \ud83d\ude00",
    "*NL* and *nl*",
    "<a href='x",
    "y'>z</a> <!-- open",
    "close -->",
    "end-",
    "the U.S. etc.",
    "中文 句子 हिन्दी वाक्य جملة עברית ไทย 😀👩‍👩‍👧",
    "e\u0301 \u200b\u200f\ufeff\ufffd \u00ad 1 1/2 cups",
    "",
    "   ",
    "...",
    LONG,
    "",
]

# Answers each line with itself, so that the process itself can be tested without ten seconds of
# loading; "die" ends it with a message.
ECHO = """
import sys
for line in sys.stdin:
    if line == "die\\n":
        sys.exit("no more memory")
    print(line, end="", flush=True)
"""


@pytest.fixture
def echo() -> Iterator[LineProcess]:
    process = LineProcess("Echo", [sys.executable, "-c", ECHO], Path.cwd())
    yield process
    process.close()


def test_ptb_tokenizes_as_coco_caption_does() -> None:
    # It removes "-LRB-", and so never a bracket, which it has put in lower case.
    assert ptb_tokenize(['A man, who can\'t "swim" -- (yet).', "Two\ndogs!"]) == [
        "a man who ca n't swim -lrb- yet -rrb-",
        "two dogs",
    ]
    assert ptb_tokenize([]) == []


def test_ptb_gives_one_line_for_each_sentence() -> None:
    tokens = ptb_tokenize(TORTURE)
    assert len(tokens) == len(TORTURE)
    assert not any("\n" in line for line in tokens)
    assert tokens[0] == "a dog runs fast"
    assert tokens[-5:] == ["", "", "", LONG, ""]


def test_ptb_keeps_lines_apart_in_random_text() -> None:
    dice = random.Random(7)
    pieces = [*(chr(n) for n in range(0x250)), *TORTURE[:-3], "\r", "\n", ".", "-", "<", ">", "&"]
    texts = ["".join(dice.choices(pieces, k=dice.randrange(20))) for _ in range(2_000)]
    marked = [line for n, text in enumerate(texts) for line in (text, f"marker{n}")]
    assert ptb_tokenize(marked)[1::2] == [f"marker{n}" for n in range(len(texts))]


def test_ptb_reports_a_java_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "intertitle.training.evaluation.metrics.meteor.ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR",
        "absent.jar",
    )
    with pytest.raises(JavaError, match=r"exited with 1 .*ClassNotFoundException"):
        ptb_tokenize(["a dog"])


def test_one_line_holds_no_line_break() -> None:
    for text in TORTURE:
        assert len(one_line(text).splitlines()) <= 1
        one_line(text).encode()


def test_meteor_answers_whatever_the_text_holds() -> None:
    good, bad = "a dog runs on the grass", "two men cook rice"
    hypotheses = [*TORTURE, *[good] * len(TORTURE), good, bad]
    references = [
        *[[good, bad]] * len(TORTURE),
        *[[text, good] for text in TORTURE],
        [good],
        [good],
    ]
    statistics = METEOR.statistics(hypotheses, references)
    assert statistics.shape == (len(hypotheses), 23)
    scores = combine("meteor", statistics)
    assert ((scores >= 0) & (scores <= 100)).all()
    # The last two stand where they should: nothing before them shifted a line.
    assert scores[len(TORTURE) :].tolist() == pytest.approx([100] * len(TORTURE) + [100, 0])


def test_meteor_keeps_one_java() -> None:
    first = METEOR.statistics(["a dog runs"], [["a dog is running"]]).tolist()
    pid = METEOR.pid
    assert pid is not None
    results: list[list[list[float]]] = []

    def score_again() -> None:
        results.append(METEOR.statistics(["a dog runs"], [["a dog is running"]]).tolist())

    threads = [threading.Thread(target=score_again) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [first] * 8
    assert METEOR.pid == pid


def test_meteor_refuses_what_has_no_score() -> None:
    cases: list[tuple[list[str], list[list[str]]]] = [([], []), (["a"], []), (["a"], [[]])]
    for hypotheses, references in cases:
        with pytest.raises(ValueError, match="METEOR wants"):
            METEOR.statistics(hypotheses, references)


def test_meteor_reports_a_java_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "intertitle.training.evaluation.metrics.meteor.meteor.METEOR_JAR", "absent.jar"
    )
    with pytest.raises(JavaError, match=r"METEOR ended with status 1; .*absent\.jar"):
        Meteor().statistics(["a"], [["a"]])


def test_a_process_starts_late_and_stays(echo: LineProcess) -> None:
    assert echo.pid is None
    assert echo.request(["a", "", "b"], 3) == ["a", "", "b"]
    pid = echo.pid
    assert echo.request(["c"], 1) == ["c"]
    assert echo.pid == pid


def test_a_question_larger_than_every_pipe(echo: LineProcess) -> None:
    lines = [f"{n} " + "x" * 1000 for n in range(2_000)]
    assert echo.request(lines, len(lines)) == lines


def test_threads_get_their_own_answers(echo: LineProcess) -> None:
    wrong: list[str] = []

    def ask(name: str) -> None:
        for n in range(50):
            lines = [f"{name} {n} {part}" for part in range(10)]
            if echo.request(lines, 10) != lines:
                wrong.append(name)

    threads = [threading.Thread(target=ask, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_death_is_reported_with_what_was_printed_and_cured(echo: LineProcess) -> None:
    with pytest.raises(JavaError, match="Echo ended with status 1; it printed: no more memory"):
        echo.request(["a", "die", "b"], 3)
    assert echo.pid is None
    assert echo.request(["c"], 1) == ["c"]


def test_a_process_that_died_between_questions_is_replaced(echo: LineProcess) -> None:
    echo.request(["a"], 1)
    pid = echo.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert echo.request(["b"], 1) == ["b"]
    assert echo.pid not in (None, pid)


def test_an_interrupted_question_leaves_no_late_answer(
    echo: LineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LineProcess, "_answer", interrupt)
        echo.request(["late"], 1)
    assert echo.request(["next"], 1) == ["next"]


def test_a_forked_child_starts_its_own(echo: LineProcess) -> None:
    echo.request(["a"], 1)
    pid = echo.pid
    here, there = multiprocessing.Pipe()

    def child() -> None:
        before = echo.pid
        there.send((before, echo.request(["b"], 1), echo.pid))
        echo.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    assert here.poll(20)
    before, answer, its_pid = here.recv()
    process.join()
    assert (before, answer, process.exitcode) == (None, ["b"], 0)
    assert its_pid not in (None, pid)
    assert echo.request(["c"], 1) == ["c"]
    assert echo.pid == pid
