"""A block that takes too long or too much ends its process, not the job."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from intertitle.pipeline.decoding.limits import Limits, resource_limits
from intertitle.pipeline.errors import UserError

HANG = """
import ctypes
from intertitle.pipeline.decoding.limits import Limits, resource_limits
with resource_limits(Limits(seconds=0.5)):
    # Through PyDLL, which keeps the interpreter's lock.
    ctypes.PyDLL(None).sleep(600)
"""


def test_a_hang_that_keeps_the_interpreters_lock_ends_the_process_in_time() -> None:
    ended = subprocess.run([sys.executable, "-c", HANG], timeout=300, stderr=subprocess.PIPE)
    assert ended.returncode == 1 and b"Timeout" not in ended.stderr


SWELL = """
import resource
import numpy as np
from intertitle.pipeline.decoding.limits import Limits, resource_limits
before = resource.getrlimit(resource.RLIMIT_AS)
def refused(make):
    try:
        make()
    except MemoryError:
        return True
    return False
with resource_limits(Limits(memory_mb=256)) as guard:
    assert np.ones(2**24, np.uint8).sum() and not guard.memory_ran_short()
    assert refused(lambda: np.ones(2**29, np.uint8))
    assert refused(lambda: [np.ones(2**24, np.uint8) for _ in range(32)])
    assert guard.memory_ran_short()
assert resource.getrlimit(resource.RLIMIT_AS) == before
assert not refused(lambda: np.ones(2**29, np.uint8))
"""


def test_memory_over_the_limit_is_refused_and_the_limit_goes_with_the_block() -> None:
    # In a process without a past: this one may have had more memory than the limit, once.
    subprocess.run([sys.executable, "-c", SWELL], check=True, timeout=300)


def test_a_block_in_time_goes_on() -> None:
    for _ in range(3):
        with resource_limits(Limits(seconds=1)):
            pass
    with pytest.raises(TimeoutError):
        signal.signal(signal.SIGALRM, _too_late)
        signal.setitimer(signal.ITIMER_REAL, 1.5)
        signal.pause()


def _too_late(*_: object) -> None:
    raise TimeoutError


@pytest.mark.parametrize("field", ["seconds", "memory_mb", "max_pixels"])
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(UserError, match=f"{field}: 0, allowed: more than 0"):
        Limits(**{field: 0})
