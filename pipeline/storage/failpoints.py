"""Failpoints: places where a test makes a process end, hang, fail or consume memory.

    INTERTITLE_FAILPOINT="decode@clip-7=hang;publish=kill"    name[@subject]=action
    INTERTITLE_FAILPOINT_ONCE=<folder>                        each acts once, and leaves a marker

Ray's workers and the processes that they start inherit the variables. `variables` returns them for
the workers of a cluster that was already running. Without the variables, a failpoint only costs a
dictionary lookup.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from pathlib import Path

VARIABLE = "INTERTITLE_FAILPOINT"
ONCE = "INTERTITLE_FAILPOINT_ONCE"


def failpoint(name: str, subject: str = "") -> None:
    """Perform the action that the environment sets for this failpoint; `_act` lists the actions."""
    rules = os.environ.get(VARIABLE)
    if not rules:
        return
    for rule in rules.split(";"):
        where, _, action = rule.rpartition("=")
        if where in (name, f"{name}@{subject}") and _first_time(where):
            _act(action)


def variables() -> dict[str, str]:
    """Return the environment variables that another process needs for the same failpoints."""
    return {name: os.environ[name] for name in (VARIABLE, ONCE) if name in os.environ}


def _first_time(where: str) -> bool:
    folder = os.environ.get(ONCE)
    if folder is None:
        return True
    try:
        (Path(folder) / where.replace("/", "_")).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _act(action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    elif action == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif action == "hang":
        # PyDLL keeps the global interpreter lock, which is the worst kind of hang.
        ctypes.PyDLL(None).sleep(10**6)
    elif action == "allocate":
        blocks = []
        while True:
            blocks.append(bytearray(b"x") * (16 << 20))
    elif action == "sleep":
        time.sleep(5)
    elif action == "fail":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    elif action == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    else:
        raise ValueError(f"{VARIABLE}: {action!r}")
