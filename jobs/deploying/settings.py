"""Settings that all files of `infra/` share, taken from constants of the code where they exist."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version

from intertitle.jobs.cluster.session import RAY_ENVIRONMENT, RAY_SYSTEM_CONFIG
from intertitle.jobs.cluster.submission import STOP_WAIT_S
from intertitle.training.tracking.server.serve import ACCOUNT, ACCOUNT_PASSWORD

# Installed version; the constraints pin Ray to one version.
RAY_VERSION = version("ray")
PYTHON_VERSION = "3.11"

# Port of a node's agent, which serves the health check; Ray draws its other ports at random.
AGENT_PORT = 52365
HEALTH_PATH = "/api/healthz"

# Folder that all nodes share, and the working directory of commands.
DATA = "/data"
# User id in the containers, without an account on the host; its group owns the volumes.
USER_ID = 1000

TOKEN = "RAY_AUTH_TOKEN"
OBJECT_STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# Account of jobs, which the server creates; it has no admin rights.
TRACKING_ACCOUNT = (ACCOUNT, ACCOUNT_PASSWORD)
# Environment variables of a job: the address of MLflow, the account for it, and the keys of the
# object store with the data. Nothing else of a Secret reaches a pod.
JOB_VARIABLES = ("MLFLOW_TRACKING_URI", *TRACKING_ACCOUNT)
OPTIONAL_JOB_VARIABLES = (*OBJECT_STORE_KEYS, "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION")
# Environment variables of every container, so that none runs without a token.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    **RAY_ENVIRONMENT,
    **{f"RAY_{name}": str(value) for name, value in RAY_SYSTEM_CONFIG.items()},
}

# A job may take `STOP_WAIT_S` to stop, and its node the same time again.
GRACE_S = 2 * STOP_WAIT_S
# Attempts after the first; each resumes from the last checkpoint or shard.
RETRIES = 3
# Maximum delay in seconds with which a slot may still start.
START_WITHIN_S = 3600
# Time in seconds after which an idle node is released.
IDLE_S = 300


@dataclass(frozen=True)
class Size:
    """Size of a node.

    Attributes:
        cpus: number of CPU cores.
        memory_gib: total memory in GiB.
        instance_type: type of an AWS machine with these resources.
        gpus: number of NVIDIA GPUs.
    """

    cpus: int
    memory_gib: int
    instance_type: str
    gpus: int = 0


@dataclass(frozen=True)
class Group:
    """Group of workers of one kind, whose number follows the load.

    Attributes:
        name: name of the group.
        size: size of each worker.
        min_workers: minimum number of workers. A training uses the nodes that exist when it starts.
        max_workers: maximum number of workers.
        on_spot: whether the workers are on spot machines, which are cheaper but may be taken away
            at any time.
    """

    name: str
    size: Size
    min_workers: int
    max_workers: int
    on_spot: bool = False


@dataclass(frozen=True)
class Settings:
    """Settings of a deployment.

    Attributes:
        image: image of every container of this project; for GPUs, one that was built for them.
        name: name of the deployment and prefix of its objects.
        head: size of the head, which runs no work.
        workers: groups of workers of a cluster.
    """

    image: str = f"intertitle:{version('intertitle')}"
    name: str = "intertitle"
    head: Size = field(default_factory=lambda: Size(2, 7, "m6i.large"))
    workers: tuple[Group, ...] = (
        # For decoding and CNNs: a machine that is taken away loses the work on one shard.
        Group("cpu-spot", Size(7, 28, "m6i.2xlarge"), min_workers=1, max_workers=8, on_spot=True),
        # For training, which would lose up to an epoch, so these are not spot machines.
        Group("gpu", Size(7, 28, "g5.2xlarge", gpus=1), min_workers=0, max_workers=4),
    )
