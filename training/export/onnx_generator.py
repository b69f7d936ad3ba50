"""Greedy search with an exported model, in ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from intertitle.pipeline.storage.manifest_folder import read_folder
from intertitle.training.data.vocab import Vocabs
from intertitle.training.export.onnx_export import ONNX_FORMAT


class OnnxGenerator:
    """Generator of sentences from the files that `export_onnx` wrote.

    Args:
        folder: folder with the files.

    Raises:
        UserError: the folder is damaged, or has another version of the format.
    """

    def __init__(self, folder: Path) -> None:
        files = read_folder(folder, ONNX_FORMAT)
        self._settings: dict[str, Any] = json.loads(files["generator.json"])
        self.vocabularies = Vocabs.from_json(files["vocabularies.json"].decode())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._encoder, self._step = (
            onnxruntime.InferenceSession(files[f"{name}.onnx"], options)
            for name in ("encoder", "step")
        )

    def __call__(
        self,
        features: NDArray[np.float32] | None = None,
        source: Sequence[int] = (),
    ) -> list[int]:
        """Generate the tokens of a sentence by greedy search.

        Args:
            features: features, [T, D] or [T, cells, D]; None if the model reads a source alone.
            source: tokens of the source; a source without a token is read as <pad>.
        """
        settings = self._settings
        inputs: dict[str, Any] = {}
        if "features" in settings["inputs"]:
            assert features is not None
            inputs["features"] = features[None]
        if "source" in settings["inputs"]:
            inputs["source"] = np.array([list(source) or [0]], np.int64)
        state = dict(zip(settings["state"], self._encoder.run(None, inputs), strict=True))
        used = {node.name for node in self._step.get_inputs()}
        words: list[int] = []
        token = settings["begin"]
        while len(words) < settings["max_tokens"]:
            values = {"token": np.array([token]), **state}
            log_probs, *changed = self._step.run(
                None, {name: value for name, value in values.items() if name in used}
            )
            state |= zip(settings["changing"], changed, strict=True)
            log_probs[0, settings["never"]] = -np.inf
            if len(words) < settings["min_tokens"]:
                log_probs[0, settings["end"]] = -np.inf
            token = int(log_probs[0].argmax())
            if token == settings["end"]:
                break
            words.append(token)
        return words

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return self.vocabularies.target.decode(tokens)
