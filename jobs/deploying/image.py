"""Dockerfile of the project, for machines with and without GPUs."""

from __future__ import annotations

from intertitle.jobs.cluster.session import HEAD_PORT, JOB_SERVER_PORT
from intertitle.jobs.deploying.settings import DATA, ENVIRONMENT, PYTHON_VERSION, USER_ID

# Files and folders that an image is built from.
SOURCES = (
    *("pyproject.toml", "README.md", "LICENSE", "infra/constraints.txt"),
    *("pipeline", "training", "jobs"),
)
_EXTRAS = "flores,ja,ko,s3,server,timm"


def dockerfile() -> str:
    """Return the Dockerfile; build it with `docker build --file infra/Dockerfile .` at the root."""
    environment = " \\\n    ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
    return f"""\
ARG ACCELERATOR=cpu

FROM python:{PYTHON_VERSION}-slim AS cpu
# PyTorch's own index has it without CUDA, and pip prefers its "+cpu" to the plain version.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

FROM python:{PYTHON_VERSION}-slim AS gpu
# CUDA comes inside PyTorch's wheel; the driver is the host's.

# hadolint ignore=DL3006
FROM ${{ACCELERATOR}} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \\
    PIP_NO_CACHE_DIR=1 \\
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# What it needs first, without its code: a layer that stays when only the code changes.
COPY pyproject.toml README.md LICENSE ./
COPY infra/constraints.txt infra/
RUN python -c "import tomllib; \
    project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = [project['optional-dependencies'][name] for name in '{_EXTRAS}'.split(',')]; \
    print(*project['dependencies'], *sum(extras, []), sep=chr(10))" > requirements.txt \
    && pip install --constraint infra/constraints.txt --requirement requirements.txt
COPY pipeline pipeline
COPY training training
COPY jobs jobs
RUN pip install --no-deps --force-reinstall .

FROM python:{PYTHON_VERSION}-slim
RUN useradd --create-home --uid {USER_ID} intertitle \\
    && install --directory --owner={USER_ID} --group={USER_ID} {DATA}
# Python's own folder: a login shell, as `ray up` has, would not look in another.
COPY --from=build /usr/local /usr/local
ENV {environment}
USER {USER_ID}:{USER_ID}
WORKDIR {DATA}
EXPOSE {HEAD_PORT} {JOB_SERVER_PORT}
CMD ["intertitle", "--help"]
"""


def dockerignore() -> str:
    """Return the .dockerignore file, which sends only the sources to the builder."""
    included = "\n".join(f"!{source}" for source in SOURCES)
    return f"*\n{included}\n**/__pycache__\n"
