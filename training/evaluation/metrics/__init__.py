"""Metrics, each computed from statistics of single examples."""
