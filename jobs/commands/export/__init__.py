"""`intertitle export`: corpora, features and predictions in the formats of other programs."""
