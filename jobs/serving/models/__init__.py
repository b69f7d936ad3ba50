"""Models in memory: loading, answers, replicas, and the choice of the one that answers."""
