"""From a corpus to a store of features, on Ray: the only package of the pipeline that knows it.

    plan ──► decode a chunk ──► backbone ──► write a shard ──► accept ──► snapshot
    (driver)   (Ray task)      (Ray actor)    (Ray task)      (driver)    (driver)

The plan depends on the corpus and the store's last snapshot alone, a shard holds fixed keys in a
fixed order, and the driver accepts one attempt a shard: so the same corpus gives the same bytes,
whatever the number of workers and whoever died on the way. Frames and features stay in Ray's object
store; the driver handles references, and a line an item.
"""

from pipeline.precompute.options import PrecomputeOptions, PrecomputeReport, Progress
from pipeline.precompute.run import precompute

__all__ = ["PrecomputeOptions", "PrecomputeReport", "Progress", "precompute"]
