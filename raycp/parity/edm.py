"""Networks of NVlabs' EDM, whose fixtures have the tensors and the arguments of a published pickle in two files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import Tensor

from raycp.errors import ModelError
from raycp.models.conversion import Conversion, convert_facts
from raycp.models.file_facts import EDM_PICKLE, file_facts
from raycp.models.json_file import read_json_object
from raycp.parity.evaluation import denoised, read
from raycp.parity.fixture import Case


def edm(case: Case, folder: Path) -> dict[str, Tensor]:
    """`D(x; sigma)` with and without a class, and the network inside."""
    path = case.path.parent / case.entry("init_kwargs", of=str)
    arguments = read_json_object(path).get("init_kwargs")
    if not isinstance(arguments, dict):
        raise ModelError(f"{path} has no init_kwargs.")
    facts = dataclasses.replace(file_facts(case.checkpoint), format=EDM_PICKLE, arguments=arguments)
    head_width = case.entry("channels_per_head", of=int) if "channels_per_head" in case.content else None
    convert_facts(facts, case.checkpoint, folder / "model", Conversion(head_width=head_width))
    x_t, sigmas = case.tensor("x_t"), case.tensor("sigma").tolist()
    labelled = bool(arguments.get("label_dim"))
    denoiser = read(folder / "model", 0 if labelled else None)
    found = denoised(denoiser, x_t, sigmas, case.tensor("class_labels").argmax(dim=1) if labelled else None)
    outputs = {"model_output": found.output, "denoised": found.image}
    if labelled:
        outputs["denoised_no_label"] = denoised(read(folder / "model", "none"), x_t, sigmas).image
    return outputs
