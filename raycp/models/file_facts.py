"""What a weights file is: its format, its network and its tensors, found out without running anything of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from raycp.errors import ModelError
from raycp.models.edm_pickle import read_edm_pickle
from raycp.models.flax_checkpoint import AVERAGED, is_flax_checkpoint, is_ncsnpp, read_flax_checkpoint
from raycp.models.openai_unet import is_openai_unet
from raycp.models.pickled_module import read_pickled_module
from raycp.models.weights import read_contents, wrapper_prefix

FLAX = "flax checkpoint"
EDM_PICKLE = "pickle of NVlabs' EDM"
WHOLE_NETWORK = "torch file with a whole network pickled"
_PERSISTENCE = b"torch_utils.persistence"
# meliketoy/wide-resnet.pytorch saves {"net": network, "acc": ..., "epoch": ...}; the modules that may be in it.
_WIDE_RESNET = b"networks.wide_resnet"
_WIDE_RESNET_KEY = "net"
_WIDE_RESNET_CLASSES = frozenset(
    {
        ("networks.wide_resnet", "Wide_ResNet"),
        ("networks.wide_resnet", "wide_basic"),
        ("torch.nn.modules.batchnorm", "BatchNorm2d"),
        ("torch.nn.modules.container", "Sequential"),
        ("torch.nn.modules.conv", "Conv2d"),
        ("torch.nn.modules.dropout", "Dropout"),
        ("torch.nn.modules.dropout", "Dropout2d"),
        ("torch.nn.modules.linear", "Linear"),
        ("torch.nn.parallel.data_parallel", "DataParallel"),
    }
)
_BLOCK = 2**20
# The network by names that its tensors have and no other known network's do.
_SIGNS: tuple[tuple[str, frozenset[str]], ...] = (
    ("UNet2DModel of diffusers", frozenset({"conv_in.weight", "down_blocks.0.resnets.0.norm1.weight"})),
    ("EDM network, bare", frozenset({"map_layer0.weight", "map_layer1.weight"})),
    ("EDM network in its preconditioner", frozenset({"model.map_layer0.weight", "model.map_layer1.weight"})),
    ("ViT of transformers", frozenset({"vit.embeddings.cls_token", "classifier.weight"})),
    ("BEiT of transformers", frozenset({"beit.embeddings.cls_token", "classifier.weight"})),
    (
        "wide residual network for CIFAR",
        frozenset({"conv1.bias", "layer3.0.conv2.bias", "layer3.0.shortcut.0.bias", "linear.weight"}),
    ),
    ("residual network for CIFAR", frozenset({"conv1.weight", "layer3.0.conv1.weight", "linear.weight"})),
    (
        "residual network of torchvision or timm",
        frozenset({"conv1.weight", "layer4.0.conv1.weight", "fc.weight"}),
    ),
    (
        "residual network for CIFAR with projections, of locuslab/smoothing",
        frozenset({"conv1.weight", "layer3.0.downsample.0.weight", "fc.weight"}),
    ),
)


@dataclass(frozen=True)
class FileFacts:
    """What `raycp weights inspect` says of a file.

    Attributes:
        format: of the file.
        network: by the names of the tensors, or unknown.
        sha256: of the bytes.
        bytes: size.
        state_key: where a torch file keeps its state_dict; None where it is one.
        others: what else is in it, by name.
        prefix: that all names begin with (but those of a normalisation before the network) and that is no part of the
            network's, such as `module.`.
        arguments: of the network's constructor, where the file has them.
        state: the tensors.
    """

    format: str
    network: str
    sha256: str
    bytes: int
    state: Mapping[str, Tensor]
    state_key: str | None = None
    others: tuple[str, ...] = ()
    prefix: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def numbers(self) -> int:
        """In all tensors together."""
        return sum(tensor.numel() for tensor in self.state.values())

    @property
    def dtypes(self) -> dict[str, int]:
        """Tensors of each dtype."""
        return dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in self.state.values()))


def file_facts(path: str | Path) -> FileFacts:
    """Find out what a file is.

    Raises:
        ModelError: there is no file, or it is damaged or of no known format.
        UnsafeFileError: it would run code if it were loaded as what it seems to be.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ModelError(f"{path} is a folder: `raycp certify --dry-run` checks model folders; give a file.")
    if not path.is_file():
        raise ModelError(f"there is no file {path}.")
    sha256, size = sha256_of_file(path), path.stat().st_size
    stored_plainly = ".safetensors" in path.name  # whose first byte may be that of a flax checkpoint
    with path.open("rb") as file:
        head = b"" if stored_plainly else file.read(2**16)
    if is_flax_checkpoint(head):
        flax = read_flax_checkpoint(path)
        network = "NCSN++ of consistency_models_cifar10" if is_ncsnpp(flax.state) else "unknown"
        return FileFacts(FLAX, network, sha256, size, flax.state, state_key=AVERAGED, others=flax.others)
    if _PERSISTENCE in head:
        edm = read_edm_pickle(path)
        network = (
            f"{edm.class_name} of EDM around a {edm.arguments.get('model_type', 'network of unknown kind')}"
        )
        return FileFacts(EDM_PICKLE, network, sha256, size, edm.state, arguments=edm.arguments)
    if _WIDE_RESNET in head:
        tensors, beside = read_pickled_module(path, _WIDE_RESNET_CLASSES, _WIDE_RESNET_KEY)
        return _of_state(WHOLE_NETWORK, sha256, size, _WIDE_RESNET_KEY, tensors, beside)
    state_key, state, others = _state_in(read_contents(path), path)
    format_ = "safetensors" if stored_plainly else "torch file"
    return _of_state(format_, sha256, size, state_key, state, others)


def _of_state(
    format_: str,
    sha256: str,
    size: int,
    state_key: str | None,
    state: Mapping[str, Tensor],
    others: tuple[str, ...],
) -> FileFacts:
    prefix = wrapper_prefix(state)
    network = _network({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return FileFacts(format_, network, sha256, size, state, state_key, others, prefix)


def sha256_of_file(path: Path) -> str:
    """Hash of the bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _state_in(contents: Any, path: Path) -> tuple[str | None, Mapping[str, Tensor], tuple[str, ...]]:
    """The key of the state_dict in a file, the tensors, and the names of all else."""
    if _is_state(contents):
        return None, contents, ()
    if isinstance(contents, Mapping):
        found = [name for name, value in contents.items() if _is_state(value)]
        if len(found) == 1:
            others = tuple(str(name) for name in contents if name != found[0])
            return str(found[0]), contents[found[0]], others
        if found:
            raise ModelError(
                f"{path} holds several sets of tensors, {', '.join(map(str, found))}; raycp reads one."
            )
    raise ModelError(f"{path} holds no tensors by name.")


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _network(state: Mapping[str, Tensor]) -> str:
    if is_openai_unet(state):
        fused = [tensor.dim() for name, tensor in state.items() if name.endswith(".qkv.weight")]
        kind = (
            {3: "improved-diffusion", 4: "consistency_models"}.get(fused[0], "of unknown kind")
            if fused
            else "plain"
        )
        return f"U-Net of OpenAI, {kind}, {'class-conditional' if 'label_emb.weight' in state else 'unconditional'}"
    for name, signs in _SIGNS:
        if signs <= state.keys():
            return name
    return "unknown"
