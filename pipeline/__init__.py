"""From a corpus to a store of features: see README.md of this folder."""

import os

# Ray reads its authentication mode when it is imported, in every process anew: so it is set before
# anything of the project can import Ray. Tokens are on unless the user says otherwise.
os.environ.setdefault("RAY_AUTH_MODE", "token")

# Threads that wait for work spin shortly, then sleep; torch reads this when it is imported. Alone
# on the cores an LSTM's step takes up to a tenth longer for it; beside two busy processes it is 1.3
# to 3.5 times as fast as with endless spinning.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
