"""Near-duplicates of photographs planted across splits: the share that `check` finds, and of others
that it names.

    PHOTOGRAPHS=FOLDER pytest -m bench -s tests/benchmarks/test_duplicates.py
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intertitle.pipeline.corpus import Example, Item, write_corpus
from intertitle.pipeline.inspection.check.run import check_corpus

# Photographs to train on, and how many of them have copies to test on.
NUM, NUM_COPIED = 1500, 300


@pytest.mark.bench
def test_planted_copies_are_found_and_hardly_any_others(tmp_path: Path) -> None:
    if "PHOTOGRAPHS" not in os.environ:
        pytest.skip("PHOTOGRAPHS names no folder of photographs")
    photographs = sorted(Path(os.environ["PHOTOGRAPHS"]).glob("*.jpg"))[:NUM]
    rng = np.random.default_rng(0)
    items = [Item(file.name, str(file), "image") for file in photographs]
    copied = rng.permutation(len(photographs))[:NUM_COPIED]
    kinds: dict[str, set[str]] = {}
    for number in copied:
        image = Image.open(photographs[number]).convert("RGB")
        width, height = image.size
        left, top = rng.integers(0, round(width * 0.05)), rng.integers(0, round(height * 0.05))
        part = image.crop((left, top, left + round(width * 0.95), top + round(height * 0.95)))
        inner = image.crop(
            (*(round(0.05 * s) for s in image.size), *(round(0.95 * s) for s in image.size))
        )
        half = image.resize((width // 2, height // 2))
        copies = {
            "re-encoded": _encoded(image, 30),
            "cropped by 5 %": part,
            "cropped by 5 % on every side": inner,
            "half the size": half,
            "all three": _encoded(part.resize((width * 6 // 10, height * 6 // 10)), 50),
        }
        for kind, copy in copies.items():
            key = f"{number} {kind}"
            copy.save(tmp_path / f"{key}.jpg", quality=90)
            items.append(Item(key, f"{key}.jpg", "image"))
            kinds.setdefault(kind, set()).add(key)
    examples = [
        Example(item.key, "train" if n < NUM else "test", item.key, None, ("x",))
        for n, item in enumerate(items)
    ]
    report = check_corpus(write_corpus(tmp_path, items, examples))
    originals = {photographs[number].name for number in copied}
    pairs = {(pair.first, pair.second) for pair in report.duplicates}
    for kind, keys in kinds.items():
        recalled = {key for key in keys if (photographs[int(key.split()[0])].name, key) in pairs}
        print(f"{kind}: {len(recalled) / len(keys):.1%} of {len(keys)} found")
        assert len(recalled) >= 0.95 * len(keys)
    # Of the photographs without copies, those that are named at all.
    others = {file.name for file in photographs} - originals
    named = {key for pair in pairs for key in pair} & others
    print(f"{len(named) / len(others):.2%} of {len(others)} others named: {sorted(named)}")
    assert len(named) <= 0.01 * len(others)


def _encoded(image: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)
