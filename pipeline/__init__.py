"""From a corpus to a store of features: see README.md of this folder."""

import os

# Ray reads its authentication mode when it is imported, in every process anew: so it is set before
# anything of the project can import Ray. Tokens are on unless the user says otherwise.
os.environ.setdefault("RAY_AUTH_MODE", "token")

# Threads that wait for work sleep instead of spinning; torch reads this when it is imported. Beside
# other work on the same cores, spinning made a training several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
