"""Networks of libraries with pretrained weights, all of them optional dependencies."""
