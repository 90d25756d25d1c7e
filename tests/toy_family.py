"""A made-up variant of a family of the package, for tests of published weights."""

from __future__ import annotations

from ppcls_ext import registry
from ppcls_ext.factory import register_family


def register_toy(name: str, network: type, arguments: dict, weights: tuple) -> registry.Variant:
    """Add the variant ``name``, which builds ``network``; one of that name is replaced.

    Use the fixture ``restored_registry``, which takes it away again.
    """
    family = registry.family_of(network.__name__)
    for table in (registry._SPECS, registry._FACTORIES):
        for key in (name, f"{name}Network"):
            table.pop(key, None)
    registry._FAMILIES[:] = [other for other in registry._FAMILIES if other.variants[0].name != name]
    register_family(
        registry.Family(
            family.name,
            networks=(type(f"{name}Network", (network,), {}),),
            paper="A toy, arXiv 0000.00000",
            variants=(registry.Variant(name, params=1, macs=1, arguments=arguments, weights=weights),),
            sources=family.sources,
        )
    )
    return registry.get_spec(name)
