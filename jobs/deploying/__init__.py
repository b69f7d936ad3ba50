"""Deployment: the files of `infra/`, generated from the settings that the code uses."""

from intertitle.jobs.deploying.render import files, write
from intertitle.jobs.deploying.settings import Settings

__all__ = ["Settings", "files", "write"]
