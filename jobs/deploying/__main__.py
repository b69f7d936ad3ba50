"""Write the files of `infra/`, as `make infra` does."""

from pathlib import Path

from intertitle.jobs.deploying import files, write

write(files(), Path("infra"))
