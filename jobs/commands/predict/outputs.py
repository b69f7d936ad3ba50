"""Output of `intertitle predict`: predictions, and what is left out or failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from intertitle.jobs import console
from intertitle.pipeline.errors import UserError

if TYPE_CHECKING:
    from intertitle.training.inference.prediction_io import Failure, Prediction


def name_left_out(num: int) -> None:
    """Print the number of inputs whose items are in quarantine."""
    if num:
        console.note(f"{num:,} left out: quarantined items")


def name_failures(failed: Sequence[Failure], num_answered: int) -> None:
    """Print which files could not be read, and why.

    Raises:
        UserError: no file could be read.
    """
    if not num_answered and len(failed) == 1:
        raise UserError(failed[0].message)
    for failure in failed:
        console.note(f"failed: {failure.error}: {failure.message}")
    total = f"{num_answered + len(failed):,} files"
    if not num_answered:
        raise UserError(f"{total}: none of them can be read")
    console.note(f"{total}: {num_answered:,} answered, {len(failed):,} failed")


def print_predictions(
    predictions: Sequence[Prediction | Failure], *, lists: bool, bare: bool
) -> None:
    """Print predictions: as JSON `lists`, as `bare` texts, or each after its input."""
    from intertitle.training.inference.prediction_io import Prediction, texts_of

    # Lists and bare lines are read by programs, and rich would replace ":dog:" by an emoji.
    if bare and not lists:
        print("".join(f"{text}\n" for text in texts_of(predictions)), end="")
        return
    for output in predictions:
        if not isinstance(output, Prediction):
            continue
        if lists:
            print(output.to_json())
        else:
            console.echo(f"{output.id}: {output.text}" if output.id else f"{output.text}\n")
