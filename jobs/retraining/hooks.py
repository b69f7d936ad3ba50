"""Who is told of a slot's outcome: a command, or a web address."""

from __future__ import annotations

import json
import logging
import subprocess
from dataclasses import asdict
from typing import TYPE_CHECKING

import requests
from tenacity import retry, stop_after_attempt, wait_exponential

from jobs.retraining.config import Hook
from pipeline.errors import one_line

if TYPE_CHECKING:
    from jobs.retraining.slot import Outcome

_log = logging.getLogger(__name__)

_TIMEOUT_S = 30


def tell(hook: Hook, outcome: Outcome) -> None:
    """Tell a hook; one that fails is warned of, it undoes nothing.

    A call that was killed just after telling it tells it again: `model` and `slot` name the event.
    """
    message = json.dumps(asdict(outcome), ensure_ascii=False)
    try:
        if hook.command:
            subprocess.run(
                hook.command, input=message.encode(), check=True, timeout=_TIMEOUT_S, shell=False
            )
        elif hook.url:
            _post(hook.url, message)
    except (OSError, subprocess.SubprocessError, requests.RequestException) as error:
        # An address may hold a secret.
        what = hook.command[0] if hook.command else "the webhook"
        shown = type(error).__name__ if hook.url else one_line(str(error))
        _log.warning("hook after %s: %s failed: %s", outcome.outcome, what, shown)


@retry(
    stop=stop_after_attempt(3),
    wait=wait_exponential(multiplier=0.5, max=5),
    reraise=True,
)
def _post(url: str, message: str) -> None:
    answer = requests.post(
        url,
        data=message.encode(),
        headers={"Content-Type": "application/json"},
        timeout=_TIMEOUT_S,
    )
    answer.raise_for_status()
