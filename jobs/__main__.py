"""`python -m jobs` is `intertitle`, where the project is there and its command is not installed."""

from jobs.cli import main

main()
