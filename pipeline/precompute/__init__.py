"""Compute the features of a corpus on Ray and write them to a store.

This is the only package of the pipeline that uses Ray.

    plan ──► decode a chunk ──► backbone ──► write a shard ──► accept ──► snapshot
    (driver)   (Ray task)      (Ray actor)    (Ray task)      (driver)    (driver)

The plan depends only on the corpus and the store's last snapshot, a shard holds fixed keys in a
fixed order, and the driver accepts one attempt per shard. The same corpus therefore gives the same
bytes, whatever the number of workers and whichever of them fail. Frames and features stay in Ray's
object store; the driver handles references and one record per item.

This module imports nothing: processes that decode import `precompute.isolation` without Ray.
"""
