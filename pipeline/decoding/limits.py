"""Limits on the time, memory and pixels that decoding one item may use."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from intertitle.pipeline.errors import UserError

# Default limit on the pixels of a picture. A larger picture is probably invalid or a decompression
# bomb, and a backbone's input of 224 x 224 pixels needs no more.
MAX_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the resources of one item; an item that exceeds them is quarantined.

    Attributes:
        seconds: time limit for reading and decoding the item, in seconds.
        memory_mb: limit on the memory that decoding may allocate, in MiB.
        max_pixels: maximum number of pixels of a picture or frame, width times height.
        keep_degraded: whether the readable part of a damaged file is stored and marked as degraded;
            otherwise the item is rejected.
        download_mb: maximum size of a file that is fetched from a server, in MiB.
    """

    seconds: float = 120.0
    memory_mb: int = 2048
    max_pixels: int = MAX_PIXELS
    keep_degraded: bool = True
    download_mb: int = 4096

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_mb", "max_pixels", "download_mb"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: {getattr(self, name)}, allowed: more than 0")

    @property
    def download_bytes(self) -> int:
        """Maximum size of a file that is fetched from a server, in bytes."""
        return self.download_mb << 20


@contextmanager
def resource_limits(limits: Limits) -> Iterator[LimitGuard]:
    """Enforce the time and memory limits on this process in a `with` block.

    A process that exceeds the time limit exits, and allocations above the memory limit fail. The
    timer is a thread outside the interpreter, so it works even while a decoder holds the global
    interpreter lock. `precompute.isolation.sandbox` determines which item was at fault.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    allowed = _address_space_bytes() + limits.memory_mb * 2**20
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
    with Path(os.devnull).open("w") as null_file:
        faulthandler.dump_traceback_later(limits.seconds, exit=True, file=null_file)
        try:
            yield LimitGuard(allowed, _peak_bytes())
        finally:
            faulthandler.cancel_dump_traceback_later()
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@dataclass(frozen=True, slots=True)
class LimitGuard:
    """A memory limit that is in force.

    Attributes:
        allowed_bytes: limit on the address space in bytes.
        peak_before_bytes: peak size of the address space before the limit was set, in bytes.
    """

    allowed_bytes: int
    peak_before_bytes: int

    def memory_ran_short(self) -> bool:
        """Return whether the process came near its limit, so that a failure may be due to it."""
        return _peak_bytes() > max(self.allowed_bytes - 2**26, self.peak_before_bytes)


def _peak_bytes() -> int:
    (peak,) = re.findall(r"VmPeak:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) * 1024


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
