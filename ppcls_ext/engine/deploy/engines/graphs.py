"""The graphs that an exported folder holds, found without opening them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from ppcls_ext.engine.deploy.engines.base import GraphInput
from ppcls_ext.engine.deploy.inference_yml import InferenceConfig, InferenceConfigError

PREFIX = "inference"
#: Paddle's graph: the one of Paddle 3 first.
PADDLE_SUFFIXES = (".json", ".pdmodel")
ONNX_FILE = f"{PREFIX}.onnx"
#: Results that are class scores; one of them comes first.
SCORES = ("logits", "probabilities")


@dataclass(frozen=True)
class GraphFiles:
    """One graph of a folder.

    Attributes:
        path: of the graph.
        outputs: names of its results; the first holds class scores.
        input: what it takes.
        inside: operators of the preprocessing that the graph does by itself.
    """

    path: Path
    outputs: tuple[str, ...]
    input: GraphInput = GraphInput()
    inside: tuple[str, ...] = ()

    @property
    def files(self) -> list[Path]:
        """Return the graph and the file with its weights, if it has one."""
        weights = self.path.with_name(
            f"{self.path.name}.data" if self.path.suffix == ".onnx" else f"{PREFIX}.pdiparams"
        )
        return [self.path, *([weights] if weights.is_file() else [])]


def paddle_graph(folder: Union[str, Path], softmax: bool = True) -> Optional[GraphFiles]:
    """Return Paddle's graph in ``folder``, or None.

    Args:
        folder: of the export.
        softmax: whether the graph ends in one.

    Raises:
        FileNotFoundError: the graph is there without its weights.
    """
    graph = next(
        (path for path in (Path(folder, PREFIX + suffix) for suffix in PADDLE_SUFFIXES) if path.is_file()), None
    )
    if graph is None:
        return None
    if not graph.with_suffix(".pdiparams").is_file():
        raise FileNotFoundError(f"{graph.with_suffix('.pdiparams')} is not there: {graph.name} has no weights")
    return GraphFiles(graph, ("probabilities" if softmax else "logits",))


def onnx_graph(folder: Union[str, Path], config: InferenceConfig) -> Optional[GraphFiles]:
    """Return the ONNX graph in ``folder``, or None.

    A graph that ``inference.yml`` does not describe, put there by another converter, is taken to be like Paddle's.

    Raises:
        InferenceConfigError: ``Export.onnx`` is not what an export writes.
    """
    path = Path(folder, ONNX_FILE)
    if not path.is_file():
        return None
    facts = config.facts.get("onnx")
    if facts is None:
        return GraphFiles(path, ("probabilities" if config.softmax else "logits",))
    where = f"{folder}/inference.yml: Export.onnx"
    if not isinstance(facts, dict):
        raise InferenceConfigError(f"{where} is a {type(facts).__name__}; expected a mapping")
    outputs = facts.get("outputs")
    if not isinstance(outputs, list) or not outputs or outputs[0] not in SCORES:
        raise InferenceConfigError(
            f"{where}.outputs is {outputs!r}; expected names of which the first is {' or '.join(SCORES)}"
        )
    given = facts.get("input")
    forms = [{"dtype": "float32", "layout": "NCHW"}, {"dtype": "uint8", "layout": "NHWC"}]
    if given not in forms:
        raise InferenceConfigError(f"{where}.input is {given!r}; expected {forms[0]} or {forms[1]}")
    inside = facts.get("inside") or []
    if not isinstance(inside, list):
        raise InferenceConfigError(f"{where}.inside is a {type(inside).__name__}; expected a list of operators")
    return GraphFiles(path, tuple(map(str, outputs)), GraphInput(**given), tuple(map(str, inside)))
