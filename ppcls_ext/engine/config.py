"""The former place of :mod:`ppcls_ext.config`."""

from ppcls_ext.config import MODES, Config, ConfigError, Problem, load_config  # noqa: F401
