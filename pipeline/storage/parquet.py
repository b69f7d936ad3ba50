"""Open Parquet files without handing Python objects to Arrow's threads.

A thread of Arrow may release a buffer shortly after the read that needed it has returned. If the
buffer belongs to a Python file and the interpreter exits at that moment, the process is aborted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from intertitle.pipeline.storage.paths import AnyPath, is_local

# Type of texts: those of a column may take more than 2 GiB. The type `string` is read as well.
TEXT = pa.large_string()


@contextmanager
def open_parquet(path: AnyPath) -> Iterator[pa.NativeFile]:
    """Open a file for Arrow in a `with` block; a remote file is read whole into Arrow's memory.

    Raises:
        OSError: the file can't be read.
    """
    if is_local(path):
        with pa.OSFile(str(path)) as file:
            yield file
        return
    content = pa.BufferOutputStream()
    with path.open("rb") as remote:
        shutil.copyfileobj(remote, content, 1 << 20)
    yield pa.BufferReader(content.getvalue())


def read_table(
    path: AnyPath, columns: list[str] | None = None, filters: pc.Expression | None = None
) -> pa.Table:
    """Read a table, or some of its columns or rows.

    Raises:
        OSError: the file can't be read.
        pa.ArrowInvalid: it is not a Parquet file.
    """
    with open_parquet(path) as file:
        return pq.read_table(file, columns=columns, filters=filters)
