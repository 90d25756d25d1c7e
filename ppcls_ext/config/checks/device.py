"""The device and its precision."""

from __future__ import annotations

import paddle

from ppcls_ext.config.report import Report


def check_device(report: Report) -> None:
    """Check that the device is there and computes in the precision that is asked for."""
    config = report.config
    if config.Global.device == "gpu":
        if not paddle.is_compiled_with_cuda():
            report.wrong(
                "Global.device",
                "got 'gpu', but this Paddle is built without CUDA; install paddlepaddle-gpu or set Global.device=cpu",
            )
            return
        if paddle.device.cuda.device_count() == 0:
            report.wrong("Global.device", "got 'gpu', but no GPU is visible; set Global.device=cpu")
            return
    amp = config.AMP
    uses_amp = amp is not None and amp.use_amp and (report.mode == "train" or (report.evaluates and amp.use_fp16_test))
    if amp is None or not uses_amp:
        return
    if config.Global.device == "cpu":
        report.wrong("AMP.use_amp", "Paddle computes in float32 on a CPU; set AMP.use_amp=False or Global.device=gpu")
    elif amp.dtype == "bfloat16" and not paddle.amp.is_bfloat16_supported():
        report.wrong("AMP.dtype", "this GPU has no bfloat16; set AMP.dtype=float16")
