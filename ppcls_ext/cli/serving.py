"""The command about serving a model over HTTP."""

from __future__ import annotations

import argparse

from ppcls_ext.cli.paddle_import import import_paddle
from ppcls_ext.cli.parser import Switch, add_command, add_engine, not_negative, positive
from ppcls_ext.cli.results import OK, UsageError

#: More than the largest batch that pays on a CPU, and than the processes of the largest machine.
MAX_PORT, MAX_WORKERS = 65_535, 256


def add_commands(commands) -> None:
    """Add the commands of this module."""
    add = add_command(
        commands,
        "serve",
        run_serve,
        "Serve an exported model over HTTP. POST /predict takes image files or base64 and gives the best classes; "
        "images of concurrent requests share batches. /health, /metrics (Prometheus) and /docs (OpenAPI) are there. "
        "SIGTERM and Ctrl-C answer what is in progress, then stop.",
        [
            "serve --model_dir inference",
            "serve --model_dir inference --host 0.0.0.0 --port 8080 --workers 2 --batch_size 32 --batch_window 5",
            "serve --model_dir inference --max_images 8 --max_image_mb 5 --max_queue 64",
        ],
    )
    add("--model_dir", required=True, help="folder that `export` wrote")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: all of this machine (default: %(default)s)")
    add("--port", type=not_negative, default=8000, help="0: a free one, which is printed (default: %(default)s)")
    add("--workers", type=positive, default=1, help="processes, each with its own model (default: %(default)s)")
    add_engine(add)
    add("--cpu_threads", type=positive, help="threads of the model in a process (default: its share of all cores)")
    add("--topk", type=positive, help="classes per result, unless a request says so (default: as exported)")
    add("--batch_size", type=positive, default=16, help="the most images in a run of the model (default: %(default)s)")
    add(
        "--batch_window",
        type=not_negative,
        default=3,
        metavar="MS",
        help="milliseconds that an image waits for others to share its batch (default: %(default)s)",
    )
    add("--decoders", type=positive, default=2, help="threads that read and preprocess (default: %(default)s)")
    add("--max_images", type=positive, default=32, help="in a request (default: %(default)s)")
    add("--max_image_mb", type=positive, default=10, metavar="MB", help="of an image file (default: %(default)s)")
    add("--max_request_mb", type=positive, default=32, metavar="MB", help="of a request (default: %(default)s)")
    add("--max_pixels", type=positive, help="of an image (default: $PPCLS_EXT_MAX_PIXELS, or 2 to the power of 26)")
    add("--max_requests", type=positive, default=64, help="in progress at once, a process (default: %(default)s)")
    add("--max_queue", type=positive, default=256, help="images that wait, a process (default: %(default)s)")
    add("--body_timeout", type=positive, default=30, metavar="S", help="seconds a body may take (default: %(default)s)")
    add("--stop_timeout", type=positive, default=30, metavar="S", help="seconds a stop may take (default: %(default)s)")
    add("--access_log", action=Switch, default=False, help="log every request (default: no)")
    add("--verify", action=Switch, default=True, help="compare the export with its checksums first (default: yes)")


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve a model."""
    from ppcls_ext.engine.deploy.serving.requirements import check_installed

    check_installed()
    from ppcls_ext.engine.deploy.serving.limits import MEBIBYTE, Limits
    from ppcls_ext.engine.deploy.serving.server import serve
    from ppcls_ext.engine.deploy.serving.settings import Settings, share_of_cores

    for name, most in (("port", MAX_PORT), ("workers", MAX_WORKERS)):
        if getattr(arguments, name) > most:
            raise UsageError(f"--{name} is {getattr(arguments, name)}; expected at most {most:,}")
    try:
        limits = Limits(
            image_bytes=arguments.max_image_mb * MEBIBYTE,
            request_bytes=arguments.max_request_mb * MEBIBYTE,
            images=arguments.max_images,
            pixels=arguments.max_pixels or 0,
            requests=arguments.max_requests,
            queue=arguments.max_queue,
            body_seconds=arguments.body_timeout,
        )
        settings = Settings(
            model_dir=arguments.model_dir,
            engine=arguments.engine,
            device=arguments.device,
            threads=share_of_cores(arguments.workers, arguments.cpu_threads),
            topk=arguments.topk,
            batch_size=arguments.batch_size,
            window=arguments.batch_window / 1000,
            decoders=arguments.decoders,
            limits=limits,
        )
        settings.check()
    except ValueError as error:
        raise UsageError(str(error)) from None
    settings = settings.with_engine(arguments.verify)
    if settings.engine == "paddle":
        import_paddle()  # for the others it need not be there
    serve(
        settings,
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        stop_seconds=arguments.stop_timeout,
        access_log=arguments.access_log,
    )
    return OK
