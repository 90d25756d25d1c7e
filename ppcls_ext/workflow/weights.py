"""Which weights a fine-tuning run starts from; random ones only where the user says so."""

from __future__ import annotations

from typing import Optional, Union

from ppcls_ext import registry
from ppcls_ext.factory import named_factory
from ppcls_ext.utils.files import NotRegularFileError
from ppcls_ext.weights.download import DownloadError
from ppcls_ext.weights.errors import NoPublishedWeightsError, WeightPlanError
from ppcls_ext.weights.files.reader import find_weights
from ppcls_ext.weights.pretrained import weights_folder
from ppcls_ext.weights.resolver import plan_weights
from ppcls_ext.workflow.errors import FinetuneError

WAYS_OUT = """\
Ways out:
  - fetch them where there is a network, with `ppcls_ext download {name}`, and copy {folder} to this machine
  - take them from a mirror: set PPCLS_EXT_MIRROR
  - give a file that you have: --pretrained <file>
  - train without: --from_scratch, which needs far more images and epochs"""
CLOSING = "`finetune` takes such a file with --pretrained; --from_scratch trains without, on far more images and epochs"


def starting_weights(
    arch: str, classes: int, pretrained: Optional[str], from_scratch: bool, fetch: bool
) -> tuple[Union[bool, str], str]:
    """Return ``Arch.pretrained``, and a sentence that says what training starts from.

    Args:
        arch: as in commands.
        classes: number of classes.
        pretrained: a file of weights; None means the published ones.
        from_scratch: whether random weights are wanted.
        fetch: whether published weights are downloaded if they are not here yet.

    Raises:
        FinetuneError: if there are none; the message says how to get them.
    """
    if from_scratch and pretrained is not None:
        raise FinetuneError("--pretrained and --from_scratch exclude each other; give one")
    if from_scratch:
        return False, "random weights, as --from_scratch asks for"
    if pretrained is not None:
        try:
            return pretrained, f"the weights in {find_weights(pretrained)}"
        except NotRegularFileError as error:
            raise FinetuneError(f"--pretrained: {error}") from None
        except OSError:
            raise FinetuneError(f"--pretrained: {pretrained} is not there, nor its .pdparams or .safetensors") from None
    name = registry.bare_name(arch)
    ways_out = WAYS_OUT.format(name=name, folder=weights_folder() / name)
    try:
        plan = plan_weights(named_factory(arch), {"class_num": classes}, True)
        if not fetch:
            here = plan.path is not None and plan.path.is_file()
            return True, "the published weights, which are here" if here else "the published weights, not here yet"
        return True, f"the published weights in {plan.fetch()}"
    except DownloadError as error:
        raise FinetuneError(f"the published weights of {name} are not here: {error}\n{ways_out}") from None
    except NoPublishedWeightsError as error:
        raise FinetuneError(f"{error}\n{CLOSING}") from None
    except WeightPlanError as error:
        raise FinetuneError(str(error)) from None
