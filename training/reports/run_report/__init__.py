"""What a run shows of its result: a description in MLflow, and a page of its own."""
