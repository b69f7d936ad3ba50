"""Two workers that train together, in processes of their own; without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs

# One worker of several: a whole training; then one that stops early, and one that goes on from it.
WORKER = """
import json, sys
from pathlib import Path
given = json.loads(sys.argv[1])
sys.path.insert(0, given["here"])
import torch
from torch import distributed
from conftest import make_loop
from intertitle.training.trainer.checkpoint import Checkpoint
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs
from intertitle.training.trainer.distributed import Ranks

ranks, out = Ranks(given["rank"], given["world_size"]), Path(given["out"])
distributed.init_process_group(
    "gloo", f"file://{out}/rendezvous", rank=ranks.rank, world_size=ranks.world_size
)
data = DataRef.from_dict(given["data"])
words = Vocabs.from_json(given["words"])

def run(recipe, name, start=None):
    loop = make_loop(data, words, Recipe.model_validate(recipe), ranks)
    if start:
        loop.restore(Checkpoint.read(out / start))
    loop.run()
    if not ranks.rank:
        loop.checkpoint().write(out / name)
    distributed.barrier()

run(given["recipe"], "whole")
run(given["stopped"], "part")
run(given["recipe"], "resumed", "part")
distributed.destroy_process_group()
"""


def run_workers(data: DataRef, words: Vocabs, recipes: Sequence[Recipe], out: Path) -> None:
    """A whole training, and one that stops early; checkpoints "whole", "part" and "resumed"."""
    given = {
        "here": str(Path(__file__).parent),
        "data": asdict(data),
        "words": words.to_json(),
        "recipe": recipes[0].model_dump(),
        "stopped": recipes[1].model_dump(),
        "out": str(out),
        "world_size": 2,
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps({**given, "rank": rank})],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for worker in workers:
            _, errors = worker.communicate(timeout=120)
            assert worker.returncode == 0, errors
    finally:
        for worker in workers:
            worker.kill()
