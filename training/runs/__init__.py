"""Trainings and evaluations, each one MLflow run from its data to its scores."""
