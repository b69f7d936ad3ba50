"""Training: from stored features and texts to models, sentences and scores."""
