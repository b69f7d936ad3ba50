"""Write corpora and feature stores in the formats of other programs."""
