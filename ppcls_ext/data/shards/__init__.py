"""Tar shards in WebDataset's layout: thousands of images per file, where millions of files would be slow.

A sample is two members in a row, ``<key>.<image suffix>`` and ``<key>.cls`` (the class as text) or ``<key>.json``.
Each shard has its index beside it (``<shard>.index``): names, offsets and labels, so that starting a run needs no
scan and any sample can be read directly.
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
