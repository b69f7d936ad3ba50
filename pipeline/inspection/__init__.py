"""Inspection of corpora and feature stores: what a person looks at."""
