"""Records of what the server answered: shadows, feedback and votes."""
