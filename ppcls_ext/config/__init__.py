"""Configurations: PaddleClas's YAML with ``-o`` overrides, validated whole before anything runs."""

from ppcls_ext.config.config import Config
from ppcls_ext.config.loading import MODES, load_config
from ppcls_ext.config.source import ConfigError, Problem

__all__ = ["MODES", "Config", "ConfigError", "Problem", "load_config"]
