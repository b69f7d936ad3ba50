"""The file of `ray up`, held to Ray's own schema."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.infra.files import read


@pytest.fixture
def launcher() -> Any:
    return read("ray-cluster.yaml")


def test_it_is_what_ray_reads(launcher: Any) -> None:
    validate_config(prepare_config(launcher))


@pytest.mark.parametrize(
    "slip",
    [
        {"idle_timeout_minute": 5},
        {"docker": {"image": "intertitle", "container_name": "intertitle", "run_option": []}},
        {"head_node_type": "haed"},
        {"max_workers": 0},
    ],
)
def test_a_slip_is_refused(launcher: Any, slip: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, ValueError)):
        validate_config(prepare_config(launcher | slip))


def test_machines_come_and_go_within_limits_and_the_head_stays(launcher: Any) -> None:
    kinds = launcher["available_node_types"]
    spot = {name for name, kind in kinds.items() if "InstanceMarketOptions" in kind["node_config"]}
    assert spot == {"cpu-spot"}
    assert kinds["gpu"]["resources"]["GPU"] == 1
    workers = {name: kind for name, kind in kinds.items() if name != "head"}
    assert all(0 <= kind["min_workers"] < kind["max_workers"] for kind in workers.values())
    assert launcher["max_workers"] == sum(kind["max_workers"] for kind in workers.values())
    assert kinds["head"]["resources"] == {"CPU": 0}


def test_only_the_machine_itself_reaches_the_job_server(launcher: Any) -> None:
    head = launcher["head_start_ray_commands"][-1].split()
    assert "--dashboard-host=127.0.0.1" in head
