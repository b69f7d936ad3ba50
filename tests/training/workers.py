"""Two workers that train together, in processes of their own; without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs

TIMEOUT_S = 240

# What each worker begins with; `make(recipe)` makes its loop of a recipe in `given`.
BEGIN = """
import json, sys
from pathlib import Path
given = json.loads(sys.argv[1])
sys.path.insert(0, given["here"])
import torch
from torch import distributed
from conftest import make_loop
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs
from intertitle.training.trainer.checkpoint import Checkpoint
from intertitle.training.trainer.distributed import Ranks

ranks, out = Ranks(given["rank"], 2), Path(given["out"])
distributed.init_process_group("gloo", f"file://{out}/rendezvous", rank=ranks.rank, world_size=2)
data, words = DataRef.from_dict(given["data"]), Vocabs.from_json(given["words"])

def make(name):
    return make_loop(data, words, Recipe.model_validate(given[name]), ranks)
"""
END = """
distributed.barrier()
distributed.destroy_process_group()
"""


@contextmanager
def two_workers(
    script: str, data: DataRef, words: Vocabs, out: Path, **given: object
) -> Iterator[None]:
    """Run a script in two workers beside a block, after which they have to end well.

    Args:
        script: what each of them does between `BEGIN` and `END`.
        data: data of the training.
        words: vocabularies of the training.
        out: folder of what they write.
        given: further values of `given`, such as recipes, as JSON.
    """
    common = {
        "here": str(Path(__file__).parent),
        "data": asdict(data),
        "words": words.to_json(),
        "out": str(out),
        **given,
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", BEGIN + script + END, json.dumps({**common, "rank": rank})],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        yield
        for worker in workers:
            _, errors = worker.communicate(timeout=TIMEOUT_S)
            assert worker.returncode == 0, errors
    finally:
        for worker in workers:
            worker.kill()


# A whole training; then one that stops early, and one that goes on from it.
STOPPED_AND_RESUMED = """
def run(recipe, name, start=None):
    loop = make(recipe)
    if start:
        loop.restore(Checkpoint.read(out / start))
    loop.run()
    if not ranks.rank:
        loop.checkpoint().write(out / name)
    distributed.barrier()

run("recipe", "whole")
run("stopped", "part")
run("recipe", "resumed", "part")
"""


def run_workers(data: DataRef, words: Vocabs, recipes: Sequence[Recipe], out: Path) -> None:
    """A whole training, and one that stops early; checkpoints "whole", "part" and "resumed"."""
    recipe, stopped = (recipe.model_dump() for recipe in recipes)
    with two_workers(STOPPED_AND_RESUMED, data, words, out, recipe=recipe, stopped=stopped):
        pass
