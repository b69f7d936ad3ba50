"""The columns of a table: which of them has the file, the captions, the answers and so on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from intertitle.pipeline.errors import UserError

# Names that people use, by the role of a column; of several, the first that a table has is taken.
NAMES: dict[str, tuple[str, ...]] = {
    "file": (
        *("file_name", "filename", "file", "image", "video", "image_path", "video_path"),
        *("path", "url", "image_url", "video_url"),
    ),
    "caption": ("txt", "caption", "captions", "text", "sentence", "sentences"),
    "question": ("question",),
    "answer": ("answer", "answers"),
    "question_kind": ("kind", "question_type"),
    "label": ("label", "cls"),
    "frame_labels": ("labels", "frame_labels"),
    "source": ("source",),
    "target": ("target",),
    "split": ("split",),
    "start": ("start", "start_s", "start_time"),
    "end": ("end", "end_s", "end_time"),
}
# Roles of the texts to learn from; a table without a file has at least two of them, or text alone.
_TEXTS = ("caption", "question", "answer", "label", "frame_labels", "source", "target")
_TASKS = (
    "allowed: a file with captions, a label or a label for each frame; question and answer; source "
    "and target; text and label; or text"
)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table that are read.

    Attributes:
        task: words for the task, for messages.
        file: column of the file's name or URL, or None.
        source: column of the example's source, or None.
        target: column of its targets.
        target_role: role of that column.
        split: column of the split, or None.
        start: column of the segment's start, or None.
        end: column of the segment's end, or None.
        kind: column of the question's kind, or None.
    """

    task: str
    file: str | None
    source: str | None
    target: str
    target_role: str
    split: str | None
    start: str | None
    end: str | None
    kind: str | None

    def describe(self, names: Sequence[str]) -> str:
        """Describe which columns are read and which are not, in one line."""
        used = {
            "file": self.file,
            "source": self.source,
            self.target_role: self.target,
            "split": self.split,
            "start": self.start,
            "end": self.end,
            "question_kind": self.kind,
        }
        listed = ", ".join(f"{role} = {name}" for role, name in used.items() if name is not None)
        unused = [name for name in names if name not in used.values()]
        return f"{self.task} ({listed})" + (f"; not read: {', '.join(unused)}" if unused else "")


def parse_roles(pairs: Sequence[str]) -> dict[str, str]:
    """Parse `ROLE=NAME` pairs, as `--column` takes them.

    Raises:
        UserError: a pair is something else, or a role occurs twice.
    """
    roles: dict[str, str] = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not equals or not name or role not in NAMES:
            raise UserError(f"--column {pair}: allowed: ROLE=NAME, ROLE of {', '.join(NAMES)}")
        if role in roles:
            raise UserError(f"--column {pair}: {role} is {roles[role]} already")
        roles[role] = name
    return roles


def choose_columns(names: Collection[str], chosen: Mapping[str, str], where: str) -> Columns:
    """Decide which columns are read.

    Args:
        names: names of the columns that there are.
        chosen: names of columns by their role, as the user gave them.
        where: name of the table, for messages.

    Raises:
        UserError: a chosen column is missing, or the columns fit no task or several.
    """
    for role, name in chosen.items():
        if name not in names:
            raise UserError(f"{where}: no column {name!r} ({role}); it has {_list(names)}")
    by_name = {name.strip().lower(): name for name in reversed(list(names))}
    roles = dict(chosen)
    for role, usual in NAMES.items():
        known = [by_name[name] for name in usual if name in by_name]
        free = [name for name in known if name not in chosen.values()]
        if role not in roles and free:
            roles[role] = free[0]
    tasks = [task for task in _tasks(roles, chosen) if _uses(task, chosen)]
    if not tasks:
        raise UserError(
            f"{where}: the columns {_list(names)} fit no task, {_TASKS}; --column ROLE=NAME says "
            f"which is which ({', '.join(NAMES)}), --header names those of a file without a header"
        )
    if len(tasks) > 1:
        choices = " or ".join(f"--column {t.target_role}={t.target}" for t in tasks)
        fitting = " and ".join(f"{t.task} ({t.target})" for t in tasks)
        raise UserError(f"{where}: the columns fit {fitting}; choose: {choices}")
    return tasks[0]


def _tasks(roles: Mapping[str, str], chosen: Mapping[str, str]) -> list[Columns]:
    """Return what the columns can be read as."""
    get = roles.get
    file = get("file")
    # A name such as "path" may be anything where the texts alone make sense.
    named_file = chosen.get("file")
    tasks = []

    def add(task: str, file: str | None, source: str | None, target_role: str) -> None:
        start, end = (get("start"), get("end")) if file is not None else (None, None)
        kind = get("question_kind") if target_role == "answer" else None
        target, split = roles[target_role], get("split")
        tasks.append(Columns(task, file, source, target, target_role, split, start, end, kind))

    if {"question", "answer"} <= roles.keys():
        add("questions", file, roles["question"], "answer")
    if {"source", "target"} <= roles.keys():
        add("translation", named_file, roles["source"], "target")
    if "frame_labels" in roles and file is not None:
        add("labels of frames", file, None, "frame_labels")
    if "label" in roles:
        text = chosen.get("source", chosen.get("caption"))
        if file is None:
            text = text or get("caption") or get("source")
        if file is not None or text is not None:
            add("labels", file, text, "label")
    if "caption" in roles and file is not None:
        add("captions", file, None, "caption")
    if "caption" in roles and file is None and not tasks:
        add("text", None, None, "caption")
    return tasks


def _uses(task: Columns, chosen: Mapping[str, str]) -> bool:
    """Return whether a task reads all texts that the user chose."""
    texts = {name for role, name in chosen.items() if role in _TEXTS}
    return texts <= {task.source, task.target}


def _list(names: Collection[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 30} more" if len(listed) > 30 else ""
    return ", ".join(listed[:30]) + more
