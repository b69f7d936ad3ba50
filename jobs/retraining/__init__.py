"""Scheduled retraining: running one slot, computing slot times, exporting to other schedulers."""

from intertitle.jobs.retraining.config import RetrainConfig, load_config
from intertitle.jobs.retraining.cron import Clock, Missed
from intertitle.jobs.retraining.daemon import serve
from intertitle.jobs.retraining.export import FORMATS, export
from intertitle.jobs.retraining.run_slot import SlotOutcome, retrain

__all__ = [
    "FORMATS",
    "Clock",
    "Missed",
    "RetrainConfig",
    "SlotOutcome",
    "export",
    "load_config",
    "retrain",
    "serve",
]
