"""System metrics of the machine of a job: CPUs, memory, network, disk and GPUs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

# MLflow's default interval. The first values come after the second one: short runs have none.
INTERVAL_S = 10.0


class MachineMonitor:
    """Log system metrics with MLflow's system metrics monitor, from one thread of this process.

    MLflow's own thread would stop permanently after one request that the server does not answer.
    `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` (seconds) is respected.

    Args:
        run_id: id of the run.
        tracking_uri: tracking URI of the run's store.
        began_ms: start time of the run in milliseconds since 1970.
        write: callback for metrics, called with values by name ("system/...") and the step, which
            is the number of seconds since the run started.
    """

    def __init__(
        self,
        run_id: str,
        tracking_uri: str,
        began_ms: int,
        write: Callable[[dict[str, float], int], None],
    ) -> None:
        self._run_id, self._tracking_uri, self._began_ms = run_id, tracking_uri, began_ms
        self._write = write
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="machine watch", daemon=True)

    def start(self) -> None:
        """Start measuring."""
        self._thread.start()

    def stop(self) -> None:
        """Stop measuring and wait for the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

        interval_s = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or INTERVAL_S
        if self._stopping.wait(interval_s):
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # MLflow logs a message on every machine without a GPU.
        logging.getLogger(SystemMetricsMonitor.__module__).setLevel(logging.WARNING)
        # Network traffic is counted from the creation of the monitor.
        monitor = SystemMetricsMonitor(self._run_id, tracking_uri=self._tracking_uri)
        # CPU utilization is measured since the previous sample: the first sample has no meaning.
        _sample(monitor)
        while not self._stopping.wait(interval_s):
            seconds = max(0, round(time.time() - self._began_ms / 1000))
            self._write(_sample(monitor), seconds)


def _sample(monitor: SystemMetricsMonitor) -> dict[str, float]:
    """Sample a monitor; the names have the prefix that MLflow's page groups system metrics by."""
    monitor.collect_metrics()
    values = {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
    for part in monitor.monitors:
        part.clear_metrics()
    return values
