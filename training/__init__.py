"""From a store of features to sentences and scores: see README.md of this folder."""

import pipeline.errors  # noqa: F401  (importing the package sets Ray's authentication mode)
