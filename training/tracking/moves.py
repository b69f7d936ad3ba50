"""Moves of a registered model's champion, each made once.

A move is written down before it is made. Whoever is killed in between leaves it to the next call,
which finishes it and makes it once.
"""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pipeline.errors import UserError
from training.tracking.pages import as_markdown

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"

# Tags of a registered model: the champions that a rollback goes back through, the last one last;
# and a move that is being made.
_CHAMPIONS, _MOVE = "champions", "champion.move"
_HEADING = "## Champions"
MAX_WHY = 300
_MAX_DESCRIPTION = 5000  # what a column of MLflow's database takes
_MAX_REMEMBERED = 200


@dataclass(frozen=True)
class Move:
    """The champion comes to be another version.

    Attributes:
        version: that becomes the champion.
        before: the champion until then.
        champions: those to go back through after the move, as in the tag.
        deed: what is done.
        note: by whom and why.
        at: when, in UTC.
    """

    version: str
    before: str | None
    champions: str
    deed: Literal["promoted", "rolled back"]
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
    """Write down a move to the last of some champions."""
    remembered = " ".join(champions[-_MAX_REMEMBERED:])
    move = Move(champions[-1], before, remembered, deed, note, now())
    text = json.dumps(asdict(move), ensure_ascii=False)
    client.set_registered_model_tag(model, _MOVE, text)


def finish(client: MlflowClient, model: str) -> Move | None:
    """Make the move that is written down, if there is one; each step may be made again."""
    registered = client.get_registered_model(model)
    if _MOVE not in registered.tags:
        return None
    move = Move(**json.loads(registered.tags[_MOVE]))
    client.set_registered_model_tag(model, _CHAMPIONS, move.champions)
    client.set_registered_model_alias(model, CHAMPION, move.version)
    since = f"since {move.at} UTC, {move.note}"
    client.set_model_version_tag(model, move.version, CHAMPION, since)
    if move.before is not None:
        told = client.get_model_version(model, move.before).tags.get(CHAMPION, "")
        if told.startswith("since"):
            until = f"until {move.at} UTC, {told}"
            client.set_model_version_tag(model, move.before, CHAMPION, until)
    described = _described(model, registered.description or "", move)
    client.update_registered_model(model, described)
    client.delete_registered_model_tag(model, _MOVE)
    return move


def _described(model: str, text: str, move: Move) -> str:
    """A model's description: what a person wrote there, this move, and those before it."""
    own, _, told = text.partition(_HEADING)
    where = f"[version {move.version}](#/models/{model}/versions/{move.version})"
    if move.deed == "promoted":
        place = f" in place of version {move.before}" if move.before else ""
        done = f"promoted {where}{place}"
    else:
        done = f"rolled back to {where}" + (f" from version {move.before}" if move.before else "")
    line = f"- {move.at} UTC: {done}, {as_markdown(move.note)}"
    before = [other for other in told.split("\n") if other.startswith("- ") and other != line]
    lines = [*([own.rstrip(), ""] if own.strip() else []), _HEADING, "", line]
    if len("\n".join(lines)) > _MAX_DESCRIPTION:
        return text  # a person's own has no room left; the tags tell of this move
    for other in before:
        if len("\n".join([*lines, other])) > _MAX_DESCRIPTION:
            break
        lines.append(other)
    return "\n".join(lines)


def champions_until_now(client: MlflowClient, model: str, champion: str | None) -> list[str]:
    """The champions until now; one that was made so in MLflow's page is the last."""
    champions: list[str] = client.get_registered_model(model).tags.get(_CHAMPIONS, "").split()
    if champion and champion not in champions[-1:]:
        champions.append(champion)
    return champions


def version_of(client: MlflowClient, model: str, alias: str) -> str | None:
    """The version that an alias points to."""
    version = client.get_registered_model(model).aliases.get(alias)
    return None if version is None else str(version)


def checked_note(why: str) -> str:
    """By whom and why, on one line.

    Raises:
        UserError: it is too long.
    """
    line = " ".join(why.split())
    if len(line) > MAX_WHY:
        raise UserError(f"--why: {len(line)} characters, allowed: at most {MAX_WHY}")
    by = os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    return f"by {by}: {line}" if line else f"by {by}"


def now() -> str:
    """The time in UTC, to the second."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
