"""Scheduled retraining: running one slot, computing slot times, exporting to other schedulers."""
