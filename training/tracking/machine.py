"""How busy the machine of a job is: processors, memory, network, disk, GPUs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

# MLflow's own interval. The first values are those of the second one: a run of seconds has none.
INTERVAL_S = 10.0


class MachineWatch:
    """Measures with MLflow's system metrics monitor, from one thread of this process.

    MLflow's monitor would send by itself, and stop for good when the server does not answer once.
    `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` (seconds) holds here too.

    Args:
        run_id: whose page shows it.
        tracking_uri: of its store.
        began_ms: when the run began, milliseconds since 1970.
        write: told values by name, "system/...", and the seconds since the run began, as step.
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
        """Begin to measure."""
        self._thread.start()

    def stop(self) -> None:
        """Measure no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

        interval_s = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or INTERVAL_S
        if self._stopping.wait(interval_s):
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # It tells that it found no GPU, on every machine without one.
        logging.getLogger(SystemMetricsMonitor.__module__).setLevel(logging.WARNING)
        # The network is counted from here on.
        monitor = SystemMetricsMonitor(self._run_id, tracking_uri=self._tracking_uri)
        # How busy processors were is known since the last look: the first one says nothing.
        _look(monitor)
        while not self._stopping.wait(interval_s):
            seconds = max(0, round(time.time() - self._began_ms / 1000))
            self._write(_look(monitor), seconds)


def _look(monitor: SystemMetricsMonitor) -> dict[str, float]:
    """What a monitor sees now, under the names that MLflow's page gathers."""
    monitor.collect_metrics()
    values = {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
    for part in monitor.monitors:
        part.clear_metrics()
    return values
