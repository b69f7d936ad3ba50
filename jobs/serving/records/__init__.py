"""Records of what the server answered: shadows and feedback."""
