"""The Dockerfile: one for machines with and without GPUs."""

from __future__ import annotations

from jobs.cluster import HEAD_PORT, JOB_SERVER_PORT
from jobs.deploying.settings import DATA, ENVIRONMENT, PYTHON_VERSION, USER_ID

# All that an image is built from.
SOURCES = ("pyproject.toml", "README.md", "infra/constraints.txt", "pipeline", "training", "jobs")
_EXTRAS = "flores,ja,ko,s3,server,timm"


def dockerfile() -> str:
    """Builds from the project's folder: `docker build --file infra/Dockerfile .`."""
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
COPY pyproject.toml README.md ./
COPY infra/constraints.txt infra/
RUN pip install --constraint infra/constraints.txt '.[{_EXTRAS}]'
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
    """Nothing but the sources goes to the builder."""
    kept = "\n".join(f"!{source}" for source in SOURCES)
    return f"*\n{kept}\n**/__pycache__\n"
