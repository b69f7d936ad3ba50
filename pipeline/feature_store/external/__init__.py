"""Stores of features that other programs have computed.

    source (.npy, .npz, HDF5, Parquet) ──► arrays by key ──► items of a corpus ──► shards, snapshot

The arrays are checked one by one. An item whose array is missing or unusable is quarantined, as an
item that cannot be decoded is. Nothing is unpickled.
"""
