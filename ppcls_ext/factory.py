"""From family data to models: a function ``Name(pretrained=False, use_ssld=False, **kwargs)`` for every backbone.

Importing this module makes the functions of all families and enters them into :mod:`ppcls_ext.registry`. Each is also
an attribute of this module and of :mod:`ppcls_ext`.

What a name means: in Python and in commands (:func:`create_backbone`) a bare name is a backbone of this package, and
``paddleclas.<Name>`` is PaddleClas's. In a YAML file (:func:`backbone_factory`) a bare name that PaddleClas has is
PaddleClas's, so that one file means one model in either engine, and ``ppcls_ext.<Name>`` is this package's.
"""

from __future__ import annotations

import inspect
from typing import Callable, Optional, Sequence, cast

from paddle import nn

from ppcls_ext import plugin, registry
from ppcls_ext.arch.backbone import FAMILIES
from ppcls_ext.arch.backbone.base import THESEUS_ARGUMENTS
from ppcls_ext.registry import Family, Variant, Weights
from ppcls_ext.utils.spelling import nearest
from ppcls_ext.weights.loading import load_pretrained
from ppcls_ext.weights.resolver import WeightPlan, chosen_source, plan_weights

PADDLECLAS = "paddleclas"
#: timm's words for what is called otherwise here.
TIMM_ARGUMENTS = {
    "num_classes": "class_num",
    "in_chans": "in_channels",
    "input_size": "img_size",
    "drop": "drop_rate",
    "proj_drop_rate": "drop_rate",
    "attn_drop": "attn_drop_rate",
    "drop_path": "drop_path_rate",
    "checkpoint_path": "pretrained",
}
#: timm's words for what is no constructor argument here.
TIMM_METHODS = {
    "features_only": "call extract_features() on the model; its feature_info lists channels and strides",
    "out_indices": "call extract_features(x, indices) on the model",
    "global_pool": "class_num=0 returns pooled features, forward_features() the map before pooling",
    "pretrained_cfg": "pretrained takes True or the path of a checkpoint",
}


def create_backbone(name: str, **kwargs) -> nn.Layer:
    """Build a backbone.

    Args:
        name: ``<Name>`` or ``ppcls_ext.<Name>`` of this package; ``paddleclas.<Name>`` of PaddleClas, or ``<Name>``
            where only PaddleClas has it.
        **kwargs: Go to the factory, for example ``class_num``; a checkpoint in ``pretrained`` is loaded strictly,
            whoever owns the backbone.

    Raises:
        KeyError: with the nearest names, if there is no such backbone.
    """
    factory = named_factory(name)
    if hasattr(factory, "arguments"):
        return factory(**kwargs)
    pretrained = kwargs.pop("pretrained", False)
    return build_backbone(factory, plan_weights(factory, kwargs, pretrained), kwargs)


def named_factory(name: str) -> Callable:
    """Return what builds the backbone that a name means in Python and in commands; see :func:`create_backbone`.

    A factory of this package has the attribute ``arguments``, PaddleClas's have not.

    Raises:
        KeyError: with the nearest names, if there is no such backbone.
    """
    bare = registry.bare_name(name)
    if bare in registry.factories():
        return registry.factories()[bare]
    theirs = None if name != bare else plugin.paddleclas_factory(name.removeprefix(f"{PADDLECLAS}."))
    if theirs is None:
        raise KeyError(_unknown(name))
    return theirs


def build_backbone(factory: Callable, plan: WeightPlan, arguments: dict) -> nn.Layer:
    """Build what ``factory`` builds and load the weights of ``plan``, strictly, whoever owns the backbone.

    Args:
        factory: Of this package or of PaddleClas, whose own loader drops what does not fit.
        plan: Made for the factory and the arguments.
        arguments: Of the factory, without those that choose weights.

    Raises:
        WeightMismatchError, NonFiniteWeightsError: see :func:`ppcls_ext.weights.loading.load_pretrained`.
    """
    path = plan.fetch()
    if hasattr(factory, "arguments"):
        return factory(pretrained=path or False, **{**plan.arguments, **arguments})
    model = factory(**arguments)
    if path is not None:
        load_pretrained(model, path, class_num=arguments.get("class_num"))
    return model


def backbone_factory(arch: str) -> Optional[Callable]:
    """Return what builds the backbone that ``Arch.name`` of a YAML file names; None if nothing does.

    A bare name that both have is PaddleClas's, unless ``ppcls_ext.register(override=True)`` has replaced it.
    """
    return registry.factories()[registry.bare_name(arch)] if is_ours(arch) else plugin.paddleclas_factory(arch)


def existing_factory(arch: str) -> Callable:
    """Return what builds the backbone that ``Arch.name`` of a YAML file names.

    Raises:
        KeyError: if nothing does.
    """
    factory = backbone_factory(arch)
    if factory is None:
        raise KeyError(f"unknown backbone {arch!r}")
    return factory


def is_ours(arch: str) -> bool:
    """Return whether ``Arch.name`` of a YAML file names a backbone of this package."""
    bare = registry.bare_name(arch)
    if bare not in registry.factories():
        return False
    return bare != arch or plugin.paddleclas_factory(bare) is None


def _unknown(name: str) -> str:
    ours, theirs = list(registry.factories()), plugin.paddleclas_names()
    bare = registry.bare_name(name)
    if bare.startswith(f"{PADDLECLAS}."):
        hint = [f"{PADDLECLAS}.{other}" for other in nearest(bare[len(PADDLECLAS) + 1 :], theirs)]
    else:
        hint = nearest(bare, [*ours, *theirs])
    message = f"unknown backbone {name!r}" + (f"; did you mean {', '.join(hint)}?" if hint else "")
    if not plugin.trees():
        message += "; PaddleClas is not installed, so its own backbones are not available"
    return message


# ---- making factories ------------------------------------------------------------------------------------------


def register_family(family: Family) -> None:
    """Add a family to the registry, with a factory for each variant and each class.

    Raises:
        ValueError: if a name is taken.
    """
    registry.add(family)
    networks = {network.__name__: network for network in family.networks}
    for variant in family.variants:
        variant = registry.get_spec(variant.name)
        _enter(make_factory(variant, networks[variant.network]))
    for name, network in networks.items():
        _enter(_make(name, network, {}, (), f"{name} with every hyper-parameter open; {family.paper}."))


def _enter(factory: registry.Factory) -> None:
    registry.add_factory(factory.__name__, factory)
    globals()[factory.__name__] = factory


def make_factory(variant: Variant, network: type) -> registry.Factory:
    """Return the function ``Name(pretrained=False, use_ssld=False, **kwargs)``, PaddleClas's way to build a model.

    Its attribute ``arguments`` holds all constructor arguments that the name stands for.

    Args:
        variant: Arguments, weights and facts.
        network: The class to build.
    """
    size = variant.preprocessing.input_size[1]
    doc = (
        f"{variant.name}: {variant.params / 1e6:.2f} M parameters, {variant.macs / 1e9:.2f} G multiply-adds at "
        f"{size} x {size}; {variant.paper}."
    )
    return _make(variant.name, network, variant.arguments, variant.weights, doc)


def _make(name: str, network: type, arguments: dict, weights: Sequence[Weights], doc: str) -> registry.Factory:
    defaults = {
        parameter.name: arguments.get(parameter.name, parameter.default)
        for parameter in inspect.signature(network).parameters.values()
    }

    def factory(pretrained=False, use_ssld=False, pretrained_source=None, pretrained_layout=None, **kwargs):
        _check_arguments(name, kwargs, defaults)
        outputs = {key: kwargs.pop(key) for key in THESEUS_ARGUMENTS if key in kwargs}
        source = chosen_source(pretrained_source, pretrained_layout)
        plan = plan_weights(factory, kwargs, pretrained, source, use_ssld)
        path = plan.fetch()
        model = network(**{**arguments, **plan.arguments, **kwargs})
        if path is not None:
            load_pretrained(model, path)
        model.set_outputs(**outputs)
        return model

    made = cast(registry.Factory, factory)
    made.arguments, made.weights = defaults, tuple(weights)
    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = f"""{doc}

    Args:
        pretrained: Path of a checkpoint to load strictly; True for the published weights, which are downloaded and
            converted once; or False. A classifier of another class count stays fresh.
        use_ssld: Whether ``pretrained=True`` means PaddleClas's weights distilled by SSLD, where there are any.
        pretrained_source: Which of several published files ``pretrained=True`` means, by its source, such as ``timm``;
            by default the first that ``ppcls_ext info`` lists. Where publishers' models differ, the argument that
            chooses between them, ``form``, follows the weights if it is not given.
        pretrained_layout: The older name of ``pretrained_source``.
        **kwargs: Arguments of :class:`{network.__name__}` ({", ".join(defaults)}) and PaddleClas's
            {", ".join(THESEUS_ARGUMENTS)}.

    Raises:
        TypeError: if a keyword is unknown.
        ValueError: if an argument is out of range, or contradicts the model that the weights belong to.
    """
    return made


def _check_arguments(name: str, given: dict, known: dict) -> None:
    """Check that the network has every argument.

    Raises:
        TypeError: with the nearest one, if it does not.
    """
    valid = [*known, *THESEUS_ARGUMENTS]
    for key in given:
        if key in valid:
            continue
        if key in TIMM_METHODS:
            advice = TIMM_METHODS[key]
        elif TIMM_ARGUMENTS.get(key) in (*valid, "pretrained"):
            advice = f"did you mean {TIMM_ARGUMENTS[key]}?"
        else:
            hint = nearest(key, valid, count=1)
            advice = f"did you mean {hint[0]}?" if hint else f"it takes {', '.join(known)}"
        raise TypeError(f"{name}() got an unexpected keyword argument {key!r}; {advice}")


for _family in FAMILIES:
    register_family(_family)
