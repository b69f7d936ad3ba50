"""Number formats of a step, and steps whose loss or gradient is not finite."""
