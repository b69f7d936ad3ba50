"""A model that is trained again as data comes in: what `intertitle retrain` does in one slot."""

from jobs.retraining.config import RetrainConfig, load_config
from jobs.retraining.slot import Outcome, retrain

__all__ = ["Outcome", "RetrainConfig", "load_config", "retrain"]
