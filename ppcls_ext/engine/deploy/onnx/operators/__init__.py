"""What each operator of Paddle is in ONNX, by the names of Paddle's PIR."""

from __future__ import annotations

from ppcls_ext.engine.deploy.onnx.operators import arithmetic, creation, layout, network, reduction, sampling
from ppcls_ext.engine.deploy.onnx.operators.call import TABLE, Call

__all__ = ["TABLE", "Call", "arithmetic", "creation", "layout", "network", "reduction", "sampling"]
