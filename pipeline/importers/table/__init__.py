"""Import of tables: one row names a file, a text or both, and its captions, answers or labels.

`readers` yields rows of CSV, TSV, JSON lines and Parquet, `columns` decides which columns are read,
`cells` reads their values, and `item_files` finds the files that they name. `collector` builds the
corpus, for the importers of webdataset tars and of Hugging Face data sets too.
"""

from intertitle.pipeline.importers.table.importer import import_table

__all__ = ["import_table"]
