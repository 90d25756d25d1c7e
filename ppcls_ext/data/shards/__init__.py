"""Tar shards in WebDataset's layout: thousands of images a file, for file systems that hate a million small ones.

A sample is two members in a row, ``<key>.<image suffix>`` and ``<key>.cls`` (the class as text) or ``<key>.json``.
Beside each shard lies its index (``<shard>.index``): names, places and labels, so that nothing is scanned at a start
and any sample can be reached.
"""

from ppcls_ext.data.shards.dataset import ShardDataset
from ppcls_ext.data.shards.index import ShardIndex, index_shards, scan
from ppcls_ext.data.shards.pattern import expand, shard_files
from ppcls_ext.data.shards.sampler import ShardSampler
from ppcls_ext.data.shards.writer import write_shards

__all__ = [
    "ShardDataset",
    "ShardIndex",
    "ShardSampler",
    "expand",
    "index_shards",
    "scan",
    "shard_files",
    "write_shards",
]
