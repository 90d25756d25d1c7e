"""The former place of :mod:`ppcls_ext.engine.deploy.predictor`."""

from ppcls_ext.engine.deploy.predictor import Predictor, check_device  # noqa: F401
