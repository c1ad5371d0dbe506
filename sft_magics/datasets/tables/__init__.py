"""Tables: files, frames and cells, the Parquet file of a dataset, tables of answers."""
