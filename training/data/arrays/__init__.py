"""A split in flat arrays, from which a batch is gathered, and the thread that prepares batches."""
