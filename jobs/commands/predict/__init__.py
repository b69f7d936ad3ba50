"""`intertitle predict`: generate predictions for files, texts, or the items of a corpus."""
