"""Where it runs: the files of `infra/`, written from the settings that the code uses."""

from jobs.deploying.render import files, write
from jobs.deploying.settings import Settings

__all__ = ["Settings", "files", "write"]
