"""Ray tasks and actors of one call: which work runs where, and what is repeated when it is lost."""
