"""Run the command `intertitle` as `python -m intertitle.jobs`, where it is not on the PATH."""

from intertitle.jobs.cli import main

main()
