"""When a retraining runs: its slots, the daemon that fires them, and manifests for other clocks."""

from jobs.scheduling.clock import Clock, Missed
from jobs.scheduling.daemon import serve
from jobs.scheduling.export import FORMATS, export

__all__ = ["FORMATS", "Clock", "Missed", "export", "serve"]
