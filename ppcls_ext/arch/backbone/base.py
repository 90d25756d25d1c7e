"""The contract that every backbone of this package keeps."""

from __future__ import annotations

import contextlib
import copy
import inspect
from typing import Optional, Sequence, Type

import paddle
from paddle import nn

from ppcls_ext.arch.freezing import freeze_up_to
from ppcls_ext.arch.layers.recompute import RecomputeSequential
from ppcls_ext.plugin import TheseusLayer
from ppcls_ext.utils.spelling import nearest
from ppcls_ext.utils.state_dict import unique_tensors
from ppcls_ext.utils.validate import check_integer

#: Factory arguments that are PaddleClas's own: they choose outputs, freeze or cut a model, and build nothing.
THESEUS_ARGUMENTS = ("return_patterns", "return_stages", "freeze_befor", "stop_after")


class Backbone(TheseusLayer):
    """An image classifier made of ``stem``, ``stages`` (a ``Sequential``), ``norm``, ``pool`` and ``head``.

    The sub-layers are registered in the order in which they run, and each takes one argument: PaddleClas's
    ``stop_after`` and ``freeze_befor`` depend on both. A family's constructor sets the attributes below and ends with
    :meth:`reset_head`. Its arguments are recorded for :meth:`config`, so they have to be plain data.

    Attributes:
        class_num: Number of classes; 0 means that the model returns pooled features.
        num_features: Width of the pooled features.
        stage_channels: Channels of each stage's output.
        stage_strides: Input pixels per step of each stage's output, the same for height and width.
        channels_last: Whether stage outputs are ``[N, H, W, C]`` inside the network.
        position_tables: Names of position embeddings, which are exempt from weight decay like norms and biases.
        position_grid: Height and width of the grid in a table ``[1, 1 + H W, C]``, whose first entry is that of a class
            token; None for tables ``[1, H, W, C]``.
        free_arguments: Constructor arguments that may change between training and use of the same weights: loading
            adapts the tensors to them, or they concern training alone.
    """

    class_num: int
    in_channels: int
    num_features: int
    stage_channels: list
    stage_strides: list
    channels_last: bool = False
    position_tables: tuple = ()
    position_grid: Optional[list] = None
    free_arguments: tuple = (
        "class_num",
        "in_channels",
        "img_size",
        "drop_rate",
        "attn_drop_rate",
        "drop_path_rate",
        "init",
    )

    _arguments: dict

    def __new__(cls, *args, **kwargs) -> Backbone:
        """Record the constructor's arguments."""
        model = super().__new__(cls)
        with contextlib.suppress(TypeError):  # of wrong arguments, which the constructor is about to refuse
            # Not by assignment, for which nn.Layer wants its own constructor to have run.
            model.__dict__["_arguments"] = _bound_arguments(cls, args, kwargs)
        return model

    def __init__(self):
        super().__init__()
        self._outputs: dict = {}

    # ---- running -----------------------------------------------------------------------------------------------

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Take images ``[N, in_channels, H, W]``, return logits ``[N, class_num]``, or features if that is 0."""
        return self.forward_head(self.forward_features(x))

    def forward_stem(self, x: paddle.Tensor) -> paddle.Tensor:
        """Check the images and return what the first stage takes."""
        self.check_input(x)
        return self.stem(x)

    def forward_features(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return the last stage's normalised map of ``[N, in_channels, H, W]``, in the network's own layout."""
        return self.norm(self.stages(self.forward_stem(x)))

    def forward_head(self, x: paddle.Tensor, pre_logits: bool = False) -> paddle.Tensor:
        """Pool the result of :meth:`forward_features` and classify it.

        Args:
            x: The map.
            pre_logits: Stop before the classifier and return ``[N, num_features]``.
        """
        x = self.pool(x)
        return x if pre_logits else self.head(x)

    def extract_features(self, x: paddle.Tensor, indices: Optional[Sequence[int]] = None) -> list:
        """Return stage outputs as ``[N, C, H, W]`` maps; :attr:`feature_info` tells their channels and strides.

        Args:
            x: Images ``[N, in_channels, H, W]``.
            indices: Which stages, in the order wanted; negative ones count from the end; None means all. Stages after
                the last one wanted do not run.

        Raises:
            ValueError: if an index is out of range or none is given.
        """
        count = len(self.stage_channels)
        wanted = list(range(count)) if indices is None else list(indices)
        if not wanted or any(not -count <= index < count for index in wanted):
            raise ValueError(f"indices must be stages between {-count} and {count - 1}, got {wanted}")
        wanted = [index % count for index in wanted]
        images, x = x, self.forward_stem(x)
        outputs = []
        for stage in list(self.stages)[: max(wanted) + 1]:
            x = stage(x)
            outputs.append(x)
        return [self.as_map(self.feature_of(index, outputs[index]), images) for index in wanted]

    def feature_of(self, index: int, output: paddle.Tensor) -> paddle.Tensor:
        """Return what :meth:`extract_features` gives of the stage ``index``, from the stage's output."""
        return output

    def as_map(self, output: paddle.Tensor, images: paddle.Tensor) -> paddle.Tensor:
        """Return a stage's output for ``images`` as ``[N, C, H, W]``."""
        return output.transpose([0, 3, 1, 2]) if self.channels_last else output

    @property
    def feature_info(self) -> list:
        """One ``{"name", "channels", "stride"}`` for each map of :meth:`extract_features`."""
        rows = zip(self.stage_channels, self.stage_strides)
        return [{"name": f"stages[{i}]", "channels": c, "stride": s} for i, (c, s) in enumerate(rows)]

    # ---- input -------------------------------------------------------------------------------------------------

    @paddle.jit.not_to_static
    def check_input(self, x: paddle.Tensor) -> None:
        """Check the shape of a batch; a dimension that is unknown while a graph is traced passes.

        Raises:
            ValueError: if it is not ``[N, in_channels, H, W]``, or the network cannot take its height or width.
        """
        shape = list(x.shape)
        if len(shape) != 4 or shape[1] not in (self.in_channels, -1):
            raise ValueError(
                f"{type(self).__name__} takes [N, {self.in_channels}, height, width], got an input of shape {shape}"
            )
        self.check_resolution(shape[2], shape[3])

    def check_resolution(self, height: int, width: int) -> None:
        """Check that the network can take images of this size; -1 stands for an unknown side.

        The default rule asks for multiples of the last stage's stride.

        Raises:
            ValueError: with the nearest sizes that it can take, if it cannot.
        """
        multiple = max(self.stage_strides)
        problems = []
        for name, side in (("height", height), ("width", width)):
            if side >= 0 and (side % multiple or side == 0):
                below = side // multiple * multiple
                choices = [str(size) for size in (below, below + multiple) if size]
                problems.append(f"{name} {side} (nearest: {' and '.join(choices)})")
        if problems:
            raise ValueError(
                f"{type(self).__name__} takes images whose height and width are multiples of {multiple}; "
                f"got {', '.join(problems)}"
            )

    # ---- head --------------------------------------------------------------------------------------------------

    def reset_head(self, class_num: int) -> None:
        """Replace the classifier by a fresh one for ``class_num`` classes (0: none); nothing else changes.

        Raises:
            TypeError: if ``class_num`` is no integer.
            ValueError: if it is negative.
        """
        self.class_num = check_integer("class_num", class_num, minimum=0)
        self.head = self.make_head(self.class_num) if self.class_num else nn.Identity()

    def make_head(self, class_num: int) -> nn.Layer:
        """Return a freshly initialised classifier of ``[N, num_features]``."""
        return nn.Linear(self.num_features, class_num)

    # ---- parameters --------------------------------------------------------------------------------------------

    def layer_groups(self) -> list:
        """Return ``(group, [parameter names])`` from the input to the head; every parameter occurs exactly once.

        A group is the stem, one block, or the tail (all that follows the last stage): what layer-wise learning-rate
        decay counts as one layer. A downsampling layer belongs to the block that follows it.
        """
        groups: dict = {}
        for name, _ in self.named_parameters():
            groups.setdefault(self.group_of(name), []).append(name)
        return list(groups.items())

    def group_of(self, name: str) -> str:
        """Return the layer group of the parameter ``name``."""
        parts = name.split(".")
        if parts[0] in ("norm", "pre_logits", "head", "aux_head"):
            return "tail"
        if parts[0] != "stages":
            return "stem"
        return ".".join(parts[:4]) if parts[2] == "blocks" else f"stages.{parts[1]}.blocks.0"

    def no_weight_decay(self) -> list:
        """Return the names of the parameters to train without weight decay: norms, biases, position embeddings."""
        return [name for name, p in self.named_parameters() if p.ndim <= 1 or name in self.position_tables]

    def fold(self, height: int, width: int) -> None:
        """Let a graph that is traced in evaluation for images of this size hold what can be computed in advance.

        Most networks have nothing of the kind. Such a graph does not follow later changes of the weights, so this is
        for export, and has to be called again after a change.
        """

    def set_recompute(self, enabled: bool = True) -> None:
        """Trade time for memory in training: keep the input of each block only, and run it again in backward."""
        for layer in self.sublayers():
            if isinstance(layer, RecomputeSequential):
                layer.recompute = bool(enabled)

    # ---- description -------------------------------------------------------------------------------------------

    def config(self) -> dict:
        """Return the constructor's arguments as plain data: ``type(model)(**model.config())`` builds the same."""
        return {**copy.deepcopy(self._arguments), "class_num": self.class_num}

    def bound_arguments(self) -> dict:
        """Return the constructor arguments that the weights are bound to: all but :attr:`free_arguments`.

        Many of them change no tensor: with different values the same weights load without an error and compute
        something else.
        """
        return {key: value for key, value in self.config().items() if key not in self.free_arguments}

    def __reduce__(self) -> tuple:
        # Paddle cannot pickle tensors on every version; a model is its configuration and its arrays.
        state = {name: (tensor.numpy(), tensor.stop_gradient) for name, (tensor, _) in unique_tensors(self).items()}
        modes = {
            name: (layer.training, getattr(layer, "recompute", False))
            for name, layer in self.named_sublayers(include_self=True)
        }
        return _rebuild, (type(self), self.config(), self._outputs, state, modes)

    def __deepcopy__(self, memo: dict) -> Backbone:
        # What ``copy`` does without ``__reduce__``: hooks are kept, and shared tensors stay shared.
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return clone

    # ---- PaddleClas's own --------------------------------------------------------------------------------------

    def set_outputs(self, return_patterns=None, return_stages=None, freeze_befor=None, stop_after=None) -> None:
        """Apply PaddleClas's ``TheseusLayer`` options, named as there.

        Args:
            return_patterns: Sub-layers, such as ``"stages[1].blocks[0]"``, whose outputs are returned besides the
                logits. The model then returns a dict; maps have the network's own layout.
            return_stages: The same for stages, by index, a list of indices, or True for all.
            freeze_befor: Freeze this sub-layer and all before it; see :func:`ppcls_ext.arch.freezing.freeze_up_to`.
            stop_after: Replace everything after this sub-layer by the identity.

        Raises:
            RuntimeError: if no PaddleClas is importable and more is asked for than to freeze.
            ValueError: if a stage or sub-layer does not exist.
        """
        if freeze_befor:
            freeze_up_to(self, freeze_befor)
            self._outputs["freeze_befor"] = freeze_befor
        options = {"return_patterns": return_patterns, "return_stages": return_stages, "stop_after": stop_after}
        given = [name for name, value in options.items() if value is not None and value is not False]
        if not given:
            return
        if not hasattr(TheseusLayer, "init_net"):
            raise RuntimeError(
                f"{', '.join(given)}: this is a feature of PaddleClas's TheseusLayer, and no PaddleClas is "
                "importable; extract_features() returns stage outputs without it"
            )
        patterns = [f"stages[{i}]" for i in range(len(self.stage_channels))]
        if return_stages is not None and return_stages is not False and return_stages is not True:
            stages = return_stages if isinstance(return_stages, (list, tuple)) else [return_stages]
            if any(isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < len(patterns) for i in stages):
                raise ValueError(f"return_stages must be stages between 0 and {len(patterns) - 1}, got {return_stages}")
            return_stages = list(stages)
        if return_patterns:
            if return_stages:
                raise ValueError("give return_patterns or return_stages, not both")
            return_patterns = [return_patterns] if isinstance(return_patterns, str) else list(return_patterns)
        for argument, names in (
            ("return_patterns", return_patterns or []),
            ("stop_after", [stop_after] if stop_after else []),
        ):
            for name in names:
                self._check_sublayer(argument, name)
        self._outputs = {
            "return_patterns": return_patterns,
            "return_stages": return_stages,
            "freeze_befor": freeze_befor,
            "stop_after": stop_after,
        }
        self.init_net(
            stages_pattern=patterns,
            return_patterns=return_patterns,
            return_stages=return_stages,
            stop_after=stop_after,
        )

    def _check_sublayer(self, argument: str, pattern: str) -> None:
        names = [name for name, _ in self.named_sublayers()]
        wanted = pattern.replace("[", ".").replace("]", "")
        if wanted not in names:
            hint = nearest(wanted, names)
            raise ValueError(f"{argument}: there is no sub-layer {pattern!r}" + (f"; nearest: {hint}" if hint else ""))


def _bound_arguments(cls: Type[nn.Layer], args: tuple, kwargs: dict) -> dict:
    """Return the arguments of a call of ``cls`` by name, those that are not given too.

    Raises:
        TypeError: if its constructor does not take them.
    """
    bound = inspect.signature(cls.__init__).bind(None, *args, **kwargs)
    bound.apply_defaults()
    return {name: _plain(value) for name, value in list(bound.arguments.items())[1:]}


def _plain(value):
    """Return ``value`` with its tuples as lists, which JSON has."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _rebuild(cls: type, config: dict, outputs: dict, state: dict, modes: dict) -> Backbone:
    """Undo :meth:`Backbone.__reduce__`.

    Raises:
        ValueError: if the model was changed by something that its configuration does not know.
    """
    model = cls(**config)
    model.set_outputs(**outputs)
    tensors = {name: tensor for name, (tensor, _) in unique_tensors(model).items()}
    if set(tensors) != set(state):
        differing = sorted(set(tensors) ^ set(state))[:3]
        raise ValueError(f"the pickled {cls.__name__} was modified after it was built: {', '.join(differing)}, …")
    for name, (array, stop_gradient) in state.items():
        tensors[name].set_value(array)
        tensors[name].stop_gradient = stop_gradient
    for name, layer in model.named_sublayers(include_self=True):
        layer.training, recompute = modes[name]
        if isinstance(layer, RecomputeSequential):
            layer.recompute = recompute
    return model
