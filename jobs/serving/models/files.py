"""Files of callers: decoded in the sandbox, and their features, computed once for each content."""

from __future__ import annotations

import base64
import hashlib
import io
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from intertitle.jobs.serving.config import LimitConfig
from intertitle.jobs.serving.errors import ApiError
from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.endings import ending_for
from intertitle.pipeline.errors import FileError, one_line
from intertitle.training.data.data_ref import FeatureRef
from intertitle.training.data.item_views import Reading, feature_extractor, frames_of

# Features of recent files that are kept for further questions about them, and their size.
_CACHE_FILES, _CACHE_BYTES = 1000, 64 * 2**20
_HEAD_BYTES = 4096


class FileReader:
    """Reads files as a model expects them.

    Args:
        features: features that the model reads, of each store of its training.
        limits: limits on what callers may use.

    Raises:
        UserError: this machine cannot compute the features.
    """

    def __init__(self, features: Sequence[FeatureRef], limits: LimitConfig) -> None:
        self._refs = features
        self._reading = Reading(limits.max_pixels, seconds=limits.seconds)
        self._extract = feature_extractor(features, self._reading)
        self._pending: dict[bytes, Future[NDArray[np.float32]]] = {}
        self._cache: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._cache_bytes = 0
        self._lock = threading.Lock()

    def read(
        self, data: bytes, name: str, field: str, *, with_frames: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        """Decode a file in the sandbox.

        Args:
            data: content of the file.
            name: name that the caller gave the file, for errors.
            field: field of the request, for errors.
            with_frames: whether the frames are wanted too.

        Returns:
            The features, and the frames that they are of, uint8 [T, H, W, 3], or None.

        Raises:
            ApiError: the file cannot be read within the limits.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="intertitle-serve-") as folder:
                path = Path(folder) / f"input{ending_for(data[:_HEAD_BYTES])}"
                path.write_bytes(data)
                try:
                    values = self._cached(data, path)
                    return values, frames_of(
                        self._refs, path, self._reading
                    ) if with_frames else None
                except FileError as error:
                    message = one_line(str(error)).replace(str(path), one_line(name))
                    raise ApiError(422, field, one_line(name), message) from error
        except ProbeError as error:
            message = f"an image or a video; this is {error.message}"
            raise ApiError(422, field, one_line(name), message) from error

    def _cached(self, data: bytes, path: Path) -> NDArray[np.float32]:
        """Compute features once for all inputs with the same file, also at the same time."""
        digest = hashlib.sha256(data).digest()
        with self._lock:
            cached = self._cache.get(digest)
            if cached is not None:
                self._cache.move_to_end(digest)
                return cached
            running = self._pending.get(digest)
            if running is None:
                own = self._pending[digest] = Future()
        if running is not None:
            return running.result()
        try:
            own.set_result(self._extract(path))
        except BaseException as error:
            own.set_exception(error)
        with self._lock:
            del self._pending[digest]
            if own.exception() is None:
                self._add(digest, own.result())
        return own.result()

    def _add(self, digest: bytes, features: NDArray[np.float32]) -> None:
        self._cache[digest] = features
        self._cache_bytes += features.nbytes
        while len(self._cache) > _CACHE_FILES or self._cache_bytes > _CACHE_BYTES:
            _, oldest = self._cache.popitem(last=False)
            self._cache_bytes -= oldest.nbytes


def as_jpeg(frame: NDArray[np.uint8]) -> str:
    """Encode a frame, uint8 [H, W, 3], as JPEG in base64."""
    file = io.BytesIO()
    imsave(file, frame, format="jpeg", pil_kwargs={"quality": 80})
    return base64.b64encode(file.getvalue()).decode()
