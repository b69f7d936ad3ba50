"""Reproduce tables of results: import data, compute features, train runs and evaluate them."""
