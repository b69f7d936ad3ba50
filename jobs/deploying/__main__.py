"""`make infra`."""

from pathlib import Path

from jobs.deploying import files, write

write(files(), Path("infra"))
