"""The data room: what an experiment is trained on, read, scaled and dealt to the workers."""

from psopt.data.held_out import HeldOut
from psopt.data.partition import Partition
from psopt.data.shards import Reader, Shards, open_shards, reading_once
from psopt.data.spec import DataSpec, catalogue
from psopt.data.standardise import Standardise
from psopt.data.synthetic import Synthetic
from psopt.data.table import CSR, Table

__all__ = [
    "CSR",
    "DataSpec",
    "HeldOut",
    "Partition",
    "Reader",
    "Shards",
    "Standardise",
    "Synthetic",
    "Table",
    "catalogue",
    "open_shards",
    "reading_once",
]
