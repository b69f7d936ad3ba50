"""What one item may cost: time, memory, pixels."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.decode import MAX_PIXELS
from pipeline.errors import UserError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one item may cost; one that costs more ends in quarantine.

    Attributes:
        seconds: to read and decode it.
        memory_mb: to allocate on the way, in MiB.
        max_pixels: of a picture or frame.
        keep_degraded: whether what can be read of a damaged file is kept, and marked; or rejected.
    """

    seconds: float = 120.0
    memory_mb: int = 2048
    max_pixels: int = MAX_PIXELS
    keep_degraded: bool = True

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_mb", "max_pixels"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: {getattr(self, name)}, allowed: more than 0")


@contextmanager
def guarded(limits: Limits) -> Iterator[Guard]:
    """A block in which this process dies rather than hang, and is refused memory over its limit.

    The clock is a thread without Python, so it runs out even while a decoder holds the
    interpreter's lock. Whose fault it was is for `pipeline.sandbox` to find out.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    allowed = _address_space_bytes() + limits.memory_mb * 2**20
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(limits.seconds, exit=True, file=nowhere)
        try:
            yield Guard(allowed, _peak_bytes())
        finally:
            faulthandler.cancel_dump_traceback_later()
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@dataclass(frozen=True, slots=True)
class Guard:
    """A limit in force.

    Attributes:
        allowed_bytes: of address space.
        peak_before_bytes: the most that the process had before.
    """

    allowed_bytes: int
    peak_before_bytes: int

    def memory_ran_short(self) -> bool:
        """Whether the process came near its limit: then a failure may be for want of memory."""
        return _peak_bytes() > max(self.allowed_bytes - 2**26, self.peak_before_bytes)


def _peak_bytes() -> int:
    (peak,) = re.findall(r"VmPeak:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) * 1024


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
