"""Places where a test makes a process die, hang or swell.

    INTERTITLE_FAILPOINT="decode@clip-7=hang;publish=kill"    name[@subject]=action
    INTERTITLE_FAILPOINT_ONCE=<folder>                        each acts once: a marker is left there

The variables travel to Ray's workers, and to the processes they start, as any environment does;
`variables` are for workers of a cluster that was there before.
Without it a failpoint is one look into a dictionary.
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
    """Do here what the environment asks for: kill, term, crash, hang, swell, sleep, fail, full."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    for rule in wanted.split(";"):
        where, _, action = rule.rpartition("=")
        if where in (name, f"{name}@{subject}") and _first_time(where):
            _act(action)


def variables() -> dict[str, str]:
    """What another process needs in its environment to meet the same failpoints."""
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
        # Through PyDLL, which keeps the interpreter's lock: the worst kind.
        ctypes.PyDLL(None).sleep(10**6)
    elif action == "swell":
        eaten = []
        while True:
            eaten.append(bytearray(b"x") * (16 << 20))
    elif action == "sleep":
        time.sleep(5)
    elif action == "fail":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    elif action == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    else:
        raise ValueError(f"{VARIABLE}: {action!r}")
