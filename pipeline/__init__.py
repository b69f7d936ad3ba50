"""Pipeline that computes the features of a corpus and writes them to a store."""
