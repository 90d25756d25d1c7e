"""Which weights a model gets, and which model they are for: one answer for factories, the engine and the checks.

A plan is made from names, paths and records alone, without a network and without building a model, so that the checks
of a configuration make the same plan as the run that follows; :meth:`WeightPlan.fetch` then downloads if need be.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Union

from ppcls_ext import registry
from ppcls_ext.plugin import paddleclas_address
from ppcls_ext.registry import Weights
from ppcls_ext.weights.conversion_record import RecordedFacts, read_record
from ppcls_ext.weights.errors import RecordError, WeightPlanError, as_arguments
from ppcls_ext.weights.files.reader import find_weights
from ppcls_ext.weights.pretrained import choose, converted_path, fetch, fetch_paddleclas
from ppcls_ext.weights.remap import named_source

#: The constructor argument that chooses between implementations of one network: its tensors are the same, or nearly,
#: and what is computed with them is not. If it is not given, it follows the weights.
FORM = "form"


@dataclass(frozen=True)
class WeightPlan:
    """Which weights a model gets, and the model that they are for.

    Attributes:
        name: Of the backbone.
        path: The file to load; that of ``published`` may not be there before :meth:`fetch`. None: nothing is loaded.
        published: The published checkpoint to fetch; None for a user's own file.
        source: Whose key names the published checkpoint has; "" for a user's own file.
        arguments: Constructor arguments that follow the weights, since the caller did not give them.
        class_num: Classes of the weights' classifier, 0 without one; None if that is not recorded.
        licence: Of the weights; "" if it is not known.
        address: Asks PaddleClas's own factory where the published weights of its backbone are; None for others.
    """

    name: str = ""
    path: Optional[Path] = None
    published: Optional[Weights] = None
    source: str = ""
    arguments: dict = field(default_factory=dict, hash=False)
    class_num: Optional[int] = None
    licence: str = ""
    address: Optional[Callable[[], Optional[str]]] = None

    @property
    def has_weights(self) -> bool:
        """Whether anything is to be loaded."""
        return self.path is not None or self.address is not None

    def fetch(self) -> Optional[Path]:
        """Return the file to load, which is downloaded and converted if it is not there yet; None without one.

        Raises:
            DownloadError: if that is not possible.
            NoPublishedWeightsError: if PaddleClas publishes none of its backbone.
        """
        if self.address is not None:
            return fetch_paddleclas(self.name, self.address())
        return self.path if self.published is None else fetch(self.name, self.published)


def plan_weights(
    factory: Callable,
    given: dict,
    pretrained: Union[None, bool, str, os.PathLike] = False,
    source: Optional[str] = None,
    use_ssld: bool = False,
    override: Optional[str] = None,
    resumed: Optional[dict] = None,
) -> WeightPlan:
    """Return which weights a model gets, and which constructor arguments follow them.

    Args:
        factory: What builds the model. A factory of this package has ``arguments``, the constructor arguments that its
            name stands for, and ``weights``, what is published; PaddleClas's have neither.
        given: Constructor arguments that the caller chose; they win, and weights of a different model are refused.
        pretrained: A path, True for published weights, or False.
        source: Which of several published files.
        use_ssld: Whether published weights distilled by SSLD are meant.
        override: A path that wins over ``pretrained``, which then only says what that file's run began from.
        resumed: What a checkpoint that the run resumes records of its model; the checkpoint's weights come later, so
            nothing is loaded.

    Raises:
        WeightPlanError: if there are no such weights, or they belong to a model with other arguments.
        FileNotFoundError, NotRegularFileError: if there is no such file.
        RecordError: if the record beside the file is damaged.
        TypeError: if ``pretrained`` is anything else.
    """
    if not isinstance(pretrained, (bool, str, os.PathLike, type(None))):
        raise TypeError(f"pretrained must be a path, True or False, got {pretrained!r}")
    name, known, weights = factory.__name__, getattr(factory, "arguments", None), getattr(factory, "weights", ())
    loads_published = pretrained is True and override is None and resumed is None
    if known is not None and use_ssld and not any(item.ssld for item in weights):
        raise WeightPlanError([("use_ssld", f"use_ssld: there are no SSLD weights of {name}")])
    if not loads_published and override is None and resumed is None:
        _refuse_choices(pretrained, source, use_ssld)
    if known is None and source is not None:
        message = f"pretrained_source={source!r}: {name} is PaddleClas's, whose weights have one source"
        raise WeightPlanError([("pretrained_source", message)])
    if known is None and loads_published:
        return WeightPlan(name, address=functools.partial(paddleclas_address, factory, given))

    # Weights without a record may be those of a run that began from published ones.
    form: dict = {}
    if known is not None and (pretrained is True or source is not None):
        published = choose(name, weights, source, bool(use_ssld))
        form = _published_form(name, published, known, given)
        if loads_published:
            return WeightPlan(
                name,
                converted_path(name, published),
                published,
                published.source,
                {key: value for key, value in form.items() if key not in given},
                licence=published.licence,
            )

    path = override if override is not None else pretrained
    path = find_weights(os.fspath(path)) if isinstance(path, (str, os.PathLike)) and resumed is None else None
    facts = RecordedFacts(arguments=resumed or {}) if path is None else read_record(path)
    recorded = _recorded_form(facts, known or {}) if facts.arguments else form
    arguments = {key: value for key, value in recorded.items() if key not in given}
    return WeightPlan(name, path, arguments=arguments, class_num=facts.class_num, licence=facts.licence)


def chosen_source(source: Optional[str], layout: Optional[str]) -> Optional[str]:
    """Return the one that is given of ``pretrained_source`` and its old name, ``pretrained_layout``.

    Raises:
        WeightPlanError: if both are, and differ.
    """
    if source is not None and layout not in (None, source):
        message = f"pretrained_source={source!r} and pretrained_layout={layout!r} are two names of one argument"
        raise WeightPlanError([("pretrained_layout", f"{message}; give the first alone")])
    return layout if source is None else source


def _refuse_choices(pretrained, source: Optional[str], use_ssld: bool) -> None:
    """Refuse arguments that choose between published weights where none are wanted."""
    chosen = {"pretrained_source": source, "use_ssld": use_ssld or None}
    for argument, value in chosen.items():
        if value is not None and pretrained is not True:
            message = f"{argument}={value!r} requires pretrained=True, got pretrained={pretrained!r}"
            raise WeightPlanError([(argument, message)])


def _published_form(name: str, item: Weights, known: dict, given: dict) -> dict:
    """Return the constructor arguments that published weights choose.

    Raises:
        WeightPlanError: naming every argument that was given otherwise, or has to be given.
    """
    needs = named_source(item.source, registry.family_of(name).name).needs({**known, **given})
    weights = f"the {item.source} weights of {name} are of a model with"
    problems = []
    for key, value in needs.items():
        if given.get(key, value) != value:
            other = as_arguments({key: given[key]})
            problems.append((key, f"{weights} {as_arguments({key: value})}, not {other}"))
    for key, value in (item.arguments or {}).items():
        if {**known, **given}[key] != value:
            wanted = as_arguments({key: value})
            problems.append((key, f"{weights} {wanted}: give {wanted} too"))
    if problems:
        raise WeightPlanError(problems)
    return needs


def _recorded_form(facts: RecordedFacts, known: dict) -> dict:
    """Return the recorded form of the network as an argument, if there is one and the network has it."""
    if FORM not in facts.arguments or FORM not in known:
        return {}
    form = facts.arguments[FORM]
    if not isinstance(form, str):
        raise RecordError(f"{facts.file or 'the checkpoint'}: {FORM} is {form!r}; expected the name of one")
    return {FORM: form}
