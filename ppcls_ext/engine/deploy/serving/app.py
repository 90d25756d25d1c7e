"""The service as an ASGI application: ``POST /predict``, ``GET /health``, ``GET /metrics`` and the OpenAPI page."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from typing import Callable, Iterator, Optional, Union

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from ppcls_ext.engine.deploy.pipeline import failed
from ppcls_ext.engine.deploy.serving import openapi
from ppcls_ext.engine.deploy.serving.admission import Admission, refusal
from ppcls_ext.engine.deploy.serving.batcher import Batcher
from ppcls_ext.engine.deploy.serving.classifier import Classifier
from ppcls_ext.engine.deploy.serving.errors import RequestError
from ppcls_ext.engine.deploy.serving.metrics import Metrics
from ppcls_ext.engine.deploy.serving.reading import Unreadable, Upload, read
from ppcls_ext.engine.deploy.serving.settings import Settings
from ppcls_ext.version import __version__

logger = logging.getLogger("ppcls_ext")

RANKED = ("class_ids", "scores", "label_names")


def create_app(
    settings: Settings, classifier: Optional[Classifier] = None, on_ready: Optional[Callable[[], None]] = None
) -> FastAPI:
    """Return the application; it accepts requests once the model has answered.

    Args:
        settings: of this process.
        classifier: the model; None loads it when the application starts.
        on_ready: called when requests are about to be accepted.
    """
    config = settings.config
    classes, most_classes = settings.classes, settings.most_classes
    metrics = Metrics()
    limits = settings.limits

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI):
        with _same_signal_handlers():
            model = classifier if classifier is not None else await run_in_threadpool(_load, settings)
        batcher = Batcher(model, settings.batch_size, settings.window, limits.queue, metrics.batch)
        app.state.model, app.state.batcher = model, batcher
        if on_ready is not None:
            on_ready()
        yield
        await batcher.close()

    app = FastAPI(
        title=f"ppcls_ext: {config.model_name}",
        version=__version__,
        description=openapi.description(config.model_name, len(config.label_list), limits),
        lifespan=lifespan,
    )
    app.add_middleware(Admission, limits=limits, metrics=metrics)

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> Response:
        metrics.refused.labels(error.code).inc()
        return refusal(error)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.post(
        "/predict",
        response_model=openapi.Answer,
        responses=openapi.ANSWERS,
        openapi_extra=openapi.request_body(most_classes),
        summary="Classify images",
    )
    async def predict(request: Request) -> Response:
        """Files in the field `images` of a form, or base64 in JSON. Images of concurrent requests share batches."""
        asked = await read(request, limits, most_classes)
        readable = [image for image in asked.images if isinstance(image, Upload)]
        metrics.images_in_progress.inc(len(readable))
        try:
            outcomes = iter(await request.app.state.batcher.submit(readable))
        finally:
            metrics.images_in_progress.dec(len(readable))
        all_outcomes = [image if isinstance(image, Unreadable) else next(outcomes) for image in asked.images]
        results = [_result(image.name, outcome) for image, outcome in zip(asked.images, all_outcomes)]
        for result in results:
            metrics.images.labels("error" if "error" in result else "ok").inc()
        shown = [_shortened(result, asked.topk or classes) for result in results]
        return JSONResponse({"model": config.model_name, "results": shown}, _status(results, all_outcomes))

    @app.get("/health", response_model=openapi.Health, responses={503: {"model": openapi.Health}}, summary="Readiness")
    async def health(request: Request) -> Response:
        """200 if the model has answered and still does."""
        problem = request.app.state.model.problem
        if problem:
            return JSONResponse({"status": "failing", "model": config.model_name, "reason": problem}, 503)
        return JSONResponse({"status": "ready", "model": config.model_name})

    @app.get("/metrics", response_class=Response, summary="Figures for Prometheus")
    async def figures() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def _load(settings: Settings) -> Classifier:
    try:
        return Classifier(settings)
    except Exception as error:
        logger.error("the model cannot be loaded: %s", error)
        raise


@contextlib.contextmanager
def _same_signal_handlers() -> Iterator[None]:
    """Put back what a signal calls: Paddle, when it is imported, takes SIGTERM from the server."""
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _result(name: str, outcome: Union[dict, Exception, Unreadable]) -> dict:
    if isinstance(outcome, Unreadable):
        return failed(name, outcome.reason)
    if isinstance(outcome, Exception):
        logger.error("the model failed on %r: %s: %s", name, type(outcome).__name__, outcome)
        return failed(name, "the model failed on this image; the service's log says why")
    return outcome


def _shortened(result: dict, topk: int) -> dict:
    return {**result, **{key: result[key][:topk] for key in RANKED}}


def _status(results: list[dict], outcomes: list) -> int:
    """Return 200 if any image was classified; otherwise whose fault it was."""
    if not all("error" in result for result in results):
        return 200
    return 500 if any(isinstance(outcome, Exception) for outcome in outcomes) else 422
