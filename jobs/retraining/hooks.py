"""Hooks that receive a slot's outcome: commands and webhooks."""

from __future__ import annotations

import json
import logging
import subprocess
from dataclasses import asdict
from typing import TYPE_CHECKING

import requests
from tenacity import retry, stop_after_attempt, wait_exponential

from intertitle.jobs.retraining.config import Hook
from intertitle.pipeline.errors import one_line

if TYPE_CHECKING:
    from intertitle.jobs.retraining.run_slot import SlotOutcome

_log = logging.getLogger(__name__)

_TIMEOUT_S = 30


def notify(hook: Hook, outcome: SlotOutcome) -> None:
    """Send a slot's outcome to a hook; a hook that fails only logs a warning.

    If a call is killed just after this, the next call sends the outcome again. A receiver can
    recognize the repetition by `model` and `slot`.
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
        # The URL is not logged, because it may contain a secret.
        target = hook.command[0] if hook.command else "the webhook"
        reason = type(error).__name__ if hook.url else one_line(str(error))
        _log.warning("hook after %s: %s failed: %s", outcome.outcome, target, reason)


@retry(
    stop=stop_after_attempt(3),
    wait=wait_exponential(multiplier=0.5, max=5),
    reraise=True,
)
def _post(url: str, message: str) -> None:
    response = requests.post(
        url,
        data=message.encode(),
        headers={"Content-Type": "application/json"},
        timeout=_TIMEOUT_S,
    )
    response.raise_for_status()
