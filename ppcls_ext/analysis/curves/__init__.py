"""Learning curves of runs, from the figures that training leaves in ``metrics.jsonl``."""

from ppcls_ext.analysis.curves.drawing import draw_curves, draw_run
from ppcls_ext.analysis.curves.series import Curve, Run, read_run

__all__ = ["Curve", "Run", "draw_curves", "draw_run", "read_run"]
