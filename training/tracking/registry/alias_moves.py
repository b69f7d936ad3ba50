"""Moves of a registered model's `champion` alias, each applied exactly once.

A move is recorded before it is applied. If the process is killed in between, the next call finishes
the move.
"""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.html import as_markdown

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"

# Tags of a registered model: the champions that a rollback goes back through, oldest first, and the
# move that is in progress.
_CHAMPIONS, _MOVE = "champions", "champion.move"
_HEADING = "## Champions"
MAX_WHY = 300
_MAX_DESCRIPTION = 5000  # size of the column in MLflow's database
_MAX_REMEMBERED = 200


@dataclass(frozen=True)
class AliasChange:
    """Change of the champion to another version.

    Attributes:
        version: version that becomes the champion.
        before: previous champion.
        champions: versions that a rollback goes back through after the move, in the format of the
            tag.
        action: kind of change.
        note: user and reason.
        at: time of the change in UTC.
    """

    version: str
    before: str | None
    champions: str
    action: Literal["promoted", "rolled back"]
    note: str
    at: str


def begin(
    client: MlflowClient,
    model: str,
    champions: list[str],
    before: str | None,
    deed: Literal["promoted", "rolled back"],
    note: str,
) -> None:
    """Record a move to the last version of `champions`."""
    remembered = " ".join(champions[-_MAX_REMEMBERED:])
    move = AliasChange(champions[-1], before, remembered, deed, note, now())
    text = json.dumps(asdict(move), ensure_ascii=False)
    client.set_registered_model_tag(model, _MOVE, text)


def finish(client: MlflowClient, model: str) -> AliasChange | None:
    """Apply the recorded move, if there is one, and return it; every step is idempotent."""
    registered = client.get_registered_model(model)
    if _MOVE not in registered.tags:
        return None
    move = AliasChange(**json.loads(registered.tags[_MOVE]))
    client.set_registered_model_tag(model, _CHAMPIONS, move.champions)
    client.set_registered_model_alias(model, CHAMPION, move.version)
    since = f"since {move.at} UTC, {move.note}"
    client.set_model_version_tag(model, move.version, CHAMPION, since)
    if move.before is not None:
        previous_note = client.get_model_version(model, move.before).tags.get(CHAMPION, "")
        if previous_note.startswith("since"):
            until = f"until {move.at} UTC, {previous_note}"
            client.set_model_version_tag(model, move.before, CHAMPION, until)
    description = _append_history(model, registered.description or "", move)
    client.update_registered_model(model, description)
    client.delete_registered_model_tag(model, _MOVE)
    return move


def _append_history(model: str, text: str, move: AliasChange) -> str:
    """Return a model's description: the text that users wrote, this move, and earlier moves."""
    user_text, _, history = text.partition(_HEADING)
    link = f"[version {move.version}](#/models/{model}/versions/{move.version})"
    if move.action == "promoted":
        replaced = f" in place of version {move.before}" if move.before else ""
        summary = f"promoted {link}{replaced}"
    else:
        summary = f"rolled back to {link}" + (f" from version {move.before}" if move.before else "")
    line = f"- {move.at} UTC: {summary}, {as_markdown(move.note)}"
    earlier = [entry for entry in history.split("\n") if entry.startswith("- ") and entry != line]
    lines = [*([user_text.rstrip(), ""] if user_text.strip() else []), _HEADING, "", line]
    if len("\n".join(lines)) > _MAX_DESCRIPTION:
        return text  # the users' text leaves no room; the tags still record the move
    for entry in earlier:
        if len("\n".join([*lines, entry])) > _MAX_DESCRIPTION:
            break
        lines.append(entry)
    return "\n".join(lines)


def champions_until_now(client: MlflowClient, model: str, champion: str | None) -> list[str]:
    """Return the champions until now; one that was set in MLflow's page is appended."""
    champions: list[str] = client.get_registered_model(model).tags.get(_CHAMPIONS, "").split()
    if champion and champion not in champions[-1:]:
        champions.append(champion)
    return champions


def version_of(client: MlflowClient, model: str, alias: str) -> str | None:
    """Return the version that an alias points to, or None."""
    version = client.get_registered_model(model).aliases.get(alias)
    return None if version is None else str(version)


def checked_note(why: str) -> str:
    """Return the user and the reason on one line.

    Raises:
        UserError: the reason is too long.
    """
    line = " ".join(why.split())
    if len(line) > MAX_WHY:
        raise UserError(f"--why: {len(line)} characters, allowed: at most {MAX_WHY}")
    by = os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    return f"by {by}: {line}" if line else f"by {by}"


def now() -> str:
    """Return the current time in UTC, with a resolution of one second."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
