"""Checks of a corpus before training: sizes, texts, vocabulary, and duplicates within and across
splits.

This module imports nothing.
"""
