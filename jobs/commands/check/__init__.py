"""`intertitle check`: look at a corpus before training on it."""
