"""The published files that the experiments of Li et al. (2024) and their comparisons need.

Every URL was read at the entry's page; where it was read elsewhere, a comment says where. None of the servers could be
asked when this was written, so sizes and hashes are only those that a stored copy of the publisher's own page or the
file itself showed. Licences are those of the publisher's LICENSE file or model page.
"""

from __future__ import annotations

from raycp.published.entry import NO_LICENCE, Published, PublishedFile

_OPENAI = "https://openaipublic.blob.core.windows.net"
_NVIDIA = "https://nvlabs-fi-cdn.nvidia.com/edm/pretrained"
_HUGGING_FACE = "https://huggingface.co"
_RESNETS = "https://github.com/akamaster/pytorch_resnet_cifar10"
_PAGE_SHOWS = "the file's page at Hugging Face"
_IN_NAME = "the digits in the file's name"
_HASHED = "the file in the git repository, hashed"


def _consistency_imagenet64(name: str, what: str, file: str, *convert: str) -> Published:
    return Published(
        name,
        f"{what}, ADM U-Net, ImageNet-64, class-conditional",
        "MIT",
        "https://github.com/openai/consistency_models#pre-trained-models",
        f"models/{name}",
        (PublishedFile(f"{_OPENAI}/consistency/{file}"),),
        (*convert, "--image-size", "64"),
    )


def _consistency_cifar10(name: str, what: str, path: str, *convert: str) -> Published:
    return Published(
        name,
        f"{what}, NCSN++, CIFAR-10 (flax)",
        "Apache-2.0",
        "https://github.com/openai/consistency_models_cifar10#pre-trained-models",
        f"models/{name}",
        (PublishedFile(f"{_OPENAI}/consistency/jcm_checkpoints/{path}"),),
        convert,
    )


def _improved_diffusion(name: str, what: str, size: int, file: str) -> Published:
    return Published(
        name,
        f"{what}, 4000 steps, cosine (improved-diffusion)",
        "MIT",
        "https://github.com/openai/improved-diffusion#models-and-hyperparameters",
        f"models/{name}",
        (PublishedFile(f"{_OPENAI}/diffusion/march-2021/{file}"),),
        ("--as", "ddpm", "--image-size", str(size)),
    )


def _edm(name: str, what: str, file: str) -> Published:
    return Published(
        name,
        f"EDM denoiser, {what}",
        "CC-BY-NC-SA-4.0",
        "https://github.com/NVlabs/edm#pre-trained-models",
        f"models/{name}",
        (PublishedFile(f"{_NVIDIA}/{file}"),),
        (),
    )


def _resnet(depth: int, digits: str, sha256: str, size: int | None = None) -> Published:
    file = f"resnet{depth}-{digits}.th"
    said_by = _HASHED if len(sha256) == 64 else _IN_NAME
    return Published(
        f"resnet{depth}-cifar10",
        f"ResNet-{depth} classifier, CIFAR-10",
        "BSD-2-Clause",
        _RESNETS,
        f"models/{file}",
        (
            PublishedFile(
                f"{_RESNETS}/raw/master/pretrained_models/{file}",
                sha256=sha256,
                sha256_from=said_by,
                size=size,
            ),
        ),
    )


def _backbone(name: str, what: str, file: str, network: str) -> Published:
    # Its documentation: the models "may have their own licenses or terms and conditions derived from the dataset used
    # for training"; its code is BSD-3-Clause.
    fetch = f"import torchvision.models as m; m.{network}(weights='IMAGENET1K_V1')"
    return Published(
        name,
        f"{what}, ImageNet, for LPIPS (torchvision)",
        NO_LICENCE,
        "https://docs.pytorch.org/vision/stable/models.html",
        f"models/{file}",
        (),
        by_hand=f'torchvision fetches it: python -c "{fetch}" leaves it in ~/.cache/torch/hub/checkpoints; copy it '
        "from there.",
    )


def _hugging_face(
    name: str, repository: str, what: str, licence: str, about: int | None, *files: PublishedFile
) -> Published:
    page = f"{_HUGGING_FACE}/{repository}"
    return Published(name, what, licence, page, f"models/{name}", files, about=about)


def _hub_file(
    repository: str, path: str, sha256: str | None = None, otherwise: PublishedFile | None = None
) -> PublishedFile:
    url = f"{_HUGGING_FACE}/{repository}/resolve/main/{path}"
    return PublishedFile(url, path, sha256, _PAGE_SHOWS if sha256 else "", otherwise=otherwise)


_CD64 = "openai/diffusers-cd_imagenet64_lpips"
_DDPM = "google/ddpm-cifar10-32"
_VIT_CIFAR = "aaraki/vit-base-patch16-224-in21k-finetuned-cifar10"
_VIT = "google/vit-base-patch16-224"
_BEIT = "microsoft/beit-large-patch16-512"
_TUNED = "datasets/YiquanLi/Consistency_Purification"

ENTRIES: tuple[Published, ...] = (
    _consistency_cifar10(
        "cd-lpips-cifar10", "consistency model, distilled with LPIPS", "cd-lpips/checkpoints/checkpoint_80",
        "--as", "consistency",
    ),
    # The README of LiYiquan9/Consistency-Purification at 1a0b2d4 links to it; later ones do not.
    Published(
        "cd-lpips-finetuned-cifar10",
        "the consistency model as fine-tuned by Li et al. (2024), NCSN++, CIFAR-10 (flax)",
        NO_LICENCE,
        f"{_HUGGING_FACE}/{_TUNED}",
        "models/cd-lpips-finetuned-cifar10",
        (_hub_file(_TUNED, "checkpoint_120"),),
        ("--as", "consistency"),
        about=902_000_000,
    ),
    _consistency_cifar10(
        "cd-l2-cifar10", "consistency model, distilled with l2", "cd-l2/checkpoints/checkpoint_80",
        "--as", "consistency",
    ),
    _consistency_cifar10(
        "cd-l1-cifar10", "consistency model, distilled with l1", "cd-l1/checkpoints/checkpoint_80",
        "--as", "consistency",
    ),
    _consistency_cifar10(
        "ct-lpips-cifar10", "consistency model, trained without a teacher", "ct-lpips/checkpoints/checkpoint_74",
        "--as", "consistency",
    ),
    _consistency_cifar10(
        "edm-openai-cifar10", "EDM denoiser, the teacher of the consistency models", "edm_cifar10_ema", "--as", "edm"
    ),
    _edm("edm-vp-cifar10", "DDPM++, CIFAR-10", "edm-cifar10-32x32-uncond-vp.pkl"),  # read in zju-pi/diff-sampler
    _edm("edm-ve-cifar10", "NCSN++, CIFAR-10", "edm-cifar10-32x32-uncond-ve.pkl"),  # read in probabilists/azula
    _edm("edm-vp-cond-cifar10", "DDPM++, CIFAR-10, class-conditional", "edm-cifar10-32x32-cond-vp.pkl"),
    # Read in probabilists/azula.
    _edm("edm-ve-cond-cifar10", "NCSN++, CIFAR-10, class-conditional", "edm-cifar10-32x32-cond-ve.pkl"),
    _improved_diffusion("ddpm-cifar10", "DDPM, CIFAR-10", 32, "cifar10_uncond_50M_500K.pt"),
    _hugging_face(
        "ddpm-linear-cifar10", _DDPM, "DDPM, CIFAR-10, 1000 steps, linear (diffusers)", "Apache-2.0", 143_000_000,
        _hub_file(_DDPM, "model_index.json"),
        _hub_file(_DDPM, "config.json"),
        _hub_file(_DDPM, "scheduler_config.json"),
        _hub_file(
            _DDPM, "diffusion_pytorch_model.safetensors",
            "1558dbe3fb093b0857d473e376b711eeda1b186c557be5e85b3a56300cd49f0f",
        ),
    ),
    # The authors' code takes it by this name; which of the two weights files there is, and the licence, are on a page
    # that could not be read.
    _hugging_face(
        "vit-base-cifar10", _VIT_CIFAR, "ViT-B/16 classifier, CIFAR-10 at 224 pixels", "see its page", None,
        _hub_file(_VIT_CIFAR, "config.json"),
        _hub_file(_VIT_CIFAR, "preprocessor_config.json"),
        _hub_file(_VIT_CIFAR, "model.safetensors", otherwise=_hub_file(_VIT_CIFAR, "pytorch_model.bin")),
    ),
    # The first three and the one of depth 56 were there to be hashed; each begins with the digits in its name.
    _resnet(
        20, "12fca82f", "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8", 1_099_231,
    ),
    _resnet(
        32, "d509ac18", "d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850", 1_890_043,
    ),
    _resnet(
        44, "014dd654", "014dd6541728a1c700b1642ab640e211dc6eb8ed507d70697458dc8f8a0ae2e4", 2_680_855,
    ),
    _resnet(
        56, "4bfd9763", "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367", 3_471_733,
    ),
    _resnet(110, "1d1ed7c2", "1d1ed7c2"),
    Published(
        "cohen-resnet110-cifar10",
        "ResNet-110 classifiers trained under noise, CIFAR-10 (Cohen et al. 2019)",
        NO_LICENCE,
        "https://github.com/locuslab/smoothing",
        "models/cohen-resnet110-cifar10",
        (),
        by_hand="They are in an archive on Google Drive, linked under \"download our models from here\" in the README.",
    ),
    Published(
        "wide-resnet-cifar10",
        "Wide-ResNet-28-10 classifier, CIFAR-10 (meliketoy/wide-resnet.pytorch)",
        NO_LICENCE,
        "https://github.com/meliketoy/wide-resnet.pytorch",
        "models/wide-resnet-28x10.t7",
        (),
        by_hand="No link to the file is known to us; the code in that repository trains such a network and leaves the "
        "file.",
    ),
    _consistency_imagenet64(
        "cd-lpips-imagenet64", "consistency model, distilled with LPIPS", "cd_imagenet64_lpips.pt",
        "--as", "consistency",
    ),
    _consistency_imagenet64(
        "cd-l2-imagenet64", "consistency model, distilled with l2", "cd_imagenet64_l2.pt", "--as", "consistency"
    ),
    _consistency_imagenet64(
        "ct-imagenet64", "consistency model, trained without a teacher", "ct_imagenet64.pt",
        "--as", "consistency", "--num-steps", "201",
    ),
    _consistency_imagenet64(
        "edm-openai-imagenet64", "EDM denoiser, the teacher of the consistency models", "edm_imagenet64_ema.pt",
        "--as", "edm",
    ),
    # The hash is that of revision 6056b9c.
    _hugging_face(
        "cd-lpips-imagenet64-diffusers", _CD64,
        "consistency model, distilled with LPIPS, ImageNet-64, class-conditional (diffusers)", "MIT", 1_180_000_000,
        _hub_file(_CD64, "model_index.json"),
        _hub_file(_CD64, "scheduler/scheduler_config.json"),
        _hub_file(_CD64, "unet/config.json"),
        _hub_file(
            _CD64, "unet/diffusion_pytorch_model.bin",
            "4d2790d566436e5174ecd59e2292c0e03be03e0697ba0cdcd18bfa41d3b5034e",
        ),
    ),
    _edm("edm-adm-imagenet64", "ADM U-Net, ImageNet-64, class-conditional", "edm-imagenet-64x64-cond-adm.pkl"),
    _improved_diffusion("ddpm-imagenet64", "DDPM, ImageNet-64", 64, "imagenet64_uncond_100M_1500K.pt"),
    _improved_diffusion(
        "ddpm-vlb-imagenet64", "DDPM trained on the bound, ImageNet-64", 64, "imagenet64_uncond_vlb_100M_1500K.pt"
    ),
    _hugging_face(
        "vit-base-imagenet", _VIT, "ViT-B/16 classifier, ImageNet at 224 pixels", "Apache-2.0", 346_000_000,
        _hub_file(_VIT, "config.json"),
        _hub_file(_VIT, "preprocessor_config.json"),
        _hub_file(
            _VIT, "model.safetensors", "1cea07110a4a47edc51420b2dda6f3b8b58e7256e8f44b4ea6aa9696162ccb5d"
        ),
    ),
    # Read as of revision 44cab4b.
    _hugging_face(
        "beit-large-imagenet", _BEIT, "BEiT-L/16 classifier, ImageNet at 512 pixels", "Apache-2.0", 1_420_000_000,
        _hub_file(_BEIT, "config.json"),
        _hub_file(_BEIT, "preprocessor_config.json"),
        _hub_file(_BEIT, "pytorch_model.bin"),
    ),
    Published(
        "inception-fid",
        "Inception v3 of 2015-12-05, for FID (pytorch-fid's conversion of the TensorFlow weights)",
        "Apache-2.0",
        "https://github.com/mseitzer/pytorch-fid",
        "models/pt_inception-2015-12-05-6726825d.pth",
        (
            PublishedFile(
                "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth",
                sha256="6726825d",
                sha256_from=_IN_NAME,
            ),
        ),
    ),
    _backbone("vgg16-imagenet", "VGG-16", "vgg16-397923af.pth", "vgg16"),
    _backbone("alexnet-imagenet", "AlexNet", "alexnet-owt-7be5be79.pth", "alexnet"),
    _backbone("squeezenet-imagenet", "SqueezeNet 1.1", "squeezenet1_1-b8a52dc0.pth", "squeezenet1_1"),
)  # fmt: skip
