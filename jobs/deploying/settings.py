"""What all files of `infra/` agree on; what the code has a name for has it from there."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version

from jobs.cluster import RAY_ENVIRONMENT, RAY_SYSTEM_CONFIG
from jobs.submission import STOP_WAIT_S
from training.tracking.server import ACCOUNT, ACCOUNT_PASSWORD

# What is installed; the constraints hold Ray to one version.
RAY_VERSION = version("ray")
PYTHON_VERSION = "3.11"

# Of a node's agent, which says whether the node is well; every other port of Ray is drawn.
AGENT_PORT = 52365
HEALTH_PATH = "/api/healthz"

# The one folder that all nodes share, and where commands run.
DATA = "/data"
# Nobody's account on the host; volumes belong to its group.
USER_ID = 1000

TOKEN = "RAY_AUTH_TOKEN"
OBJECT_STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# Of jobs: the server makes this account, which is no admin's.
TRACKING_ACCOUNT = (ACCOUNT, ACCOUNT_PASSWORD)
# What a job reads: where MLflow is, the account for it, and keys of the object store that data is
# in. Nothing else of a Secret reaches a pod.
JOB_VARIABLES = ("MLFLOW_TRACKING_URI", *TRACKING_ACCOUNT)
OPTIONAL_JOB_VARIABLES = (*OBJECT_STORE_KEYS, "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION")
# Of every container, so that none runs without a token.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    **RAY_ENVIRONMENT,
    **{f"RAY_{name}": str(value) for name, value in RAY_SYSTEM_CONFIG.items()},
}

# A job that is told to stop may take `STOP_WAIT_S`, its node as much again.
GRACE_S = 2 * STOP_WAIT_S
# Attempts after the first: each goes on from the last checkpoint or shard.
RETRIES = 3
# So late may a slot still be begun.
START_WITHIN_S = 3600
# A node without work is given back.
IDLE_S = 300


@dataclass(frozen=True)
class Size:
    """Of a node.

    Attributes:
        cpus: cores.
        memory_gib: for all of it.
        gpus: of NVIDIA.
        instance_type: the AWS machine that has these.
    """

    cpus: int
    memory_gib: int
    instance_type: str
    gpus: int = 0


@dataclass(frozen=True)
class Group:
    """Workers of one kind, as many as there is work for.

    Attributes:
        name: of the group.
        size: of each.
        least: that are always there. A training takes the nodes there are when it begins.
        most: that there may be.
        on_spot: on machines that may be taken away at any time, which are cheaper.
    """

    name: str
    size: Size
    least: int
    most: int
    on_spot: bool = False


@dataclass(frozen=True)
class Settings:
    """Of where it runs.

    Attributes:
        image: of every container of this project; with GPUs it was built for them.
        name: what things are called.
        head: drives; it takes no work.
        workers: the groups of a cluster.
    """

    image: str = f"intertitle:{version('intertitle')}"
    name: str = "intertitle"
    head: Size = field(default_factory=lambda: Size(2, 7, "m6i.large"))
    workers: tuple[Group, ...] = (
        # Decoding and CNNs: what is lost is one shard's work.
        Group("cpu-spot", Size(7, 28, "m6i.2xlarge"), least=1, most=8, on_spot=True),
        # Training, which would lose up to an epoch.
        Group("gpu", Size(7, 28, "g5.2xlarge", gpus=1), least=0, most=4),
    )
