"""Docker Compose file: Ray's head and workers, MLflow, its database and an object store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from intertitle.jobs.cluster.session import HEAD_PORT, JOB_SERVER_PORT
from intertitle.jobs.deploying.settings import (
    AGENT_PORT,
    DATA,
    GRACE_S,
    HEALTH_PATH,
    OBJECT_STORE_KEYS,
    TOKEN,
    TRACKING_ACCOUNT,
    Settings,
    Size,
)
from intertitle.training.tracking.server.serve import ADMIN_PASSWORD, STORE, ServerSettings

Tree = dict[str, Any]

_DATABASE_IMAGE = "postgres:17"
_OBJECT_STORE_IMAGE = "versity/versitygw:v1.7.0"
_OBJECT_STORE_PORT = 7070
_DATABASE_PASSWORD = "POSTGRES_PASSWORD"
_REGION = "us-east-1"
_NUM_WORKERS = 2
_SIZE = Size(2, 6, "")
# Shared memory of a container, which holds Ray's object store.
_SHM_SIZE = "2gb"
_TRACKING_PORT = ServerSettings.port
_NODES, _STORES = "nodes", "stores"


def compose(settings: Settings) -> Tree:
    """Return the file for `docker compose --file infra/compose.yaml up`; it contains no secrets."""
    name = settings.name
    return {
        "name": name,
        "services": {
            "head": {
                **_node(settings, _SIZE),
                "command": _words(
                    f"ray start --head --block --num-cpus=0 --port={HEAD_PORT} "
                    f"--dashboard-host=0.0.0.0 --dashboard-port={JOB_SERVER_PORT}"
                ),
                "ports": [_here_alone(JOB_SERVER_PORT)],
                "depends_on": {"tracking": {"condition": "service_healthy"}},
            },
            "worker": _worker(settings, _SIZE, _NUM_WORKERS),
            # Started only by `docker compose --profile gpu up`.
            "gpu-worker": {
                **_worker(settings, replace(_SIZE, gpus=1), 1),
                "profiles": ["gpu"],
            },
            "tracking": _tracking(settings),
            "database": {
                "image": _DATABASE_IMAGE,
                "environment": {
                    "POSTGRES_USER": name,
                    "POSTGRES_DB": name,
                    _DATABASE_PASSWORD: _required(_DATABASE_PASSWORD),
                },
                "networks": [_STORES],
                "volumes": ["database:/var/lib/postgresql/data"],
                "healthcheck": _check(["CMD", "pg_isready", f"--username={name}"]),
                "restart": "unless-stopped",
            },
            "objects": {
                "image": _OBJECT_STORE_IMAGE,
                "command": ["posix", "/objects"],
                "environment": {
                    "ROOT_ACCESS_KEY": _required("AWS_ACCESS_KEY_ID"),
                    "ROOT_SECRET_KEY": _required("AWS_SECRET_ACCESS_KEY"),
                    "VGW_PORT": f":{_OBJECT_STORE_PORT}",
                    "VGW_REGION": _REGION,
                    "VGW_HEALTH": "/health",
                },
                "networks": [_STORES],
                "volumes": ["objects:/objects"],
                "healthcheck": _check(
                    [
                        *("CMD", "wget", "-q", "-O", "/dev/null"),
                        f"http://127.0.0.1:{_OBJECT_STORE_PORT}/health",
                    ]
                ),
                "restart": "unless-stopped",
            },
            # Creates the bucket if it does not exist, and ends.
            "bucket": {
                **_image(settings),
                "command": ["python", "-c", make_bucket(name)],
                "environment": _object_store(),
                "networks": [_STORES],
                "depends_on": {"objects": {"condition": "service_healthy"}},
                "restart": "on-failure",
            },
        },
        # Only MLflow's server can reach the database and the object store, as only it has the keys.
        "networks": {_NODES: {}, _STORES: {"internal": True}},
        "volumes": {"data": {}, "database": {}, "objects": {}},
    }


def make_bucket(name: str) -> str:
    """Return a Python program that creates a bucket in the object store of the environment."""
    return f"import fsspec; fsspec.filesystem('s3').makedirs('{name}', exist_ok=True)"


def _tracking(settings: Settings) -> Tree:
    name = settings.name
    return {
        **_image(settings),
        "command": _words(
            f"intertitle tracking --host 0.0.0.0 --port {_TRACKING_PORT} --allowed-hosts tracking"
        ),
        "environment": {
            # The password is in a separate variable, so that it needs no quoting in a URL.
            STORE: f"postgresql://{name}@database/{name}",
            "PGPASSWORD": _required(_DATABASE_PASSWORD),
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{name}/artifacts",
            ADMIN_PASSWORD: _required(ADMIN_PASSWORD),
            # The account that the server creates for the nodes.
            **{name: _required(name) for name in TRACKING_ACCOUNT},
            **_object_store(),
        },
        "networks": [_NODES, _STORES],
        "ports": [_here_alone(_TRACKING_PORT)],
        "depends_on": {
            "database": {"condition": "service_healthy"},
            "bucket": {"condition": "service_completed_successfully"},
        },
        "healthcheck": _check(_asks(f"http://127.0.0.1:{_TRACKING_PORT}/health")),
        "restart": "unless-stopped",
    }


def _worker(settings: Settings, size: Size, num: int) -> Tree:
    return {
        **_node(settings, size, num),
        "command": _words(
            f"ray start --block --address=head:{HEAD_PORT} "
            f"--num-cpus={size.cpus} --num-gpus={size.gpus}"
        ),
        "depends_on": {"head": {"condition": "service_healthy"}},
    }


def _node(settings: Settings, size: Size, num: int = 1) -> Tree:
    resources: Tree = {
        "limits": {"cpus": str(size.cpus), "memory": f"{size.memory_gib}g"},
    }
    if size.gpus:
        gpus = {"driver": "nvidia", "count": size.gpus, "capabilities": ["gpu"]}
        resources["reservations"] = {"devices": [gpus]}
    return {
        **_image(settings),
        "environment": {
            "MLFLOW_TRACKING_URI": f"http://tracking:{_TRACKING_PORT}",
            **{name: _required(name) for name in (TOKEN, *TRACKING_ACCOUNT)},
        },
        "networks": [_NODES],
        "volumes": [f"data:{DATA}"],
        "shm_size": _SHM_SIZE,
        "init": True,
        "stop_grace_period": f"{GRACE_S}s",
        "deploy": {"replicas": num, "resources": resources},
        "healthcheck": _check(_asks(f"http://127.0.0.1:{AGENT_PORT}{HEALTH_PATH}")),
        "restart": "unless-stopped",
    }


def _image(settings: Settings) -> Tree:
    return {
        "image": settings.image,
        "build": {
            "context": "..",
            "dockerfile": "infra/Dockerfile",
            "args": {"ACCELERATOR": "${ACCELERATOR:-cpu}"},
        },
    }


def _object_store() -> Tree:
    return {
        "AWS_ENDPOINT_URL": f"http://objects:{_OBJECT_STORE_PORT}",
        "AWS_REGION": _REGION,
        **{name: _required(name) for name in OBJECT_STORE_KEYS},
    }


def _required(name: str) -> str:
    """Return a reference to a variable that must be set: there are no default passwords."""
    return f"${{{name}:?is not set}}"


def _here_alone(port: int) -> str:
    """Publish a port only on this machine; other machines need a proxy that speaks HTTPS."""
    return f"127.0.0.1:{port}:{port}"


def _asks(url: str) -> list[str]:
    program = f"import urllib.request; urllib.request.urlopen('{url}', timeout=5)"
    return ["CMD", "python", "-c", program]


def _check(test: list[str]) -> Tree:
    # `start_period` is long, because on two busy cores a head has needed 80 s.
    return {
        "test": test,
        "interval": "10s",
        "timeout": "10s",
        "retries": 6,
        "start_period": "180s",
    }


def _words(command: str) -> list[str]:
    return command.split()
