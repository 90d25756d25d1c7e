"""The table of published layouts: how each family's tensors are named elsewhere, and how here.

A family lists its layouts; the first is the one to write when PyTorch's names are asked for. A layout is a list of
rules, ``(published name, our name)``; the first that matches applies, in either direction. What a rule may say besides
is in :mod:`ppcls_ext.weights.key_rules`. Renaming PyTorch's batch norm buffers and turning the weights of linear layers
is done for every layout and is no rule.
"""

from __future__ import annotations

from ppcls_ext.weights.key_rules import OURS, PADDLE, Layout, Rule

_SEQUENCER = Layout(
    "sequencer",
    "okojoalg/sequencer, PyTorch",
    (
        Rule("absolute_pos_embed", "pos_embed.weight"),
        # The last child of a stage leads to the next one, which begins with it here.
        Rule("blocks.{s}.{depth}.down.{rest}", "stages.{s+1}.downsample.down.{rest}"),
        Rule("blocks.{s}.{i}.{rest}", "stages.{s}.blocks.{i}.{rest}"),
        Rule("stem.{rest}", "stem.{rest}"),
        Rule("norm.{rest}", "norm.{rest}"),
        Rule("head.{rest}", "head.{rest}"),
    ),
)
_SEQUENCER_TIMM = Layout(
    "timm",
    "timm, PyTorch",
    (
        Rule("head.fc.{rest}", "head.{rest}"),
        Rule("stages.{rest}", "stages.{rest}"),
        Rule("stem.{rest}", "stem.{rest}"),
        Rule("norm.{rest}", "norm.{rest}"),
    ),
)

#: family (as in the registry): its published layouts
LAYOUTS: dict = {
    "Sequencer": (_SEQUENCER, _SEQUENCER_TIMM),
}

#: Our own names, which every family has.
OWN_LAYOUT = Layout(OURS, "ppcls_ext, Paddle", (Rule("{rest}", "{rest}"),), PADDLE)


def layouts_of(family: str) -> tuple:
    """Return the layouts that a file of ``family`` may have: the published ones, then ours."""
    return (*LAYOUTS.get(family, ()), OWN_LAYOUT)
