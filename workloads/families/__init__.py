"""A family of models is a function from its config to an `Architecture`, found by `model_type`."""

from __future__ import annotations

from simsparse.errors import UnknownNameError
from workloads._config import Config
from workloads.architecture import Architecture
from workloads.families import deepseek, encoder_decoder, encoders, gpt, llama

READERS = llama.READERS | deepseek.READERS | gpt.READERS | encoders.READERS | encoder_decoder.READERS


def read(config: Config) -> Architecture:
    """Read a config by the family its `model_type` names.

    Raises
    ------
    UnknownNameError
        For another family, with those that are known and the way through torch.
    InputError
        For a key that is missing or a value that cannot be.
    """
    kind = config.text("model_type", default="")
    if kind not in READERS:
        known = ", ".join(sorted(READERS))
        raise UnknownNameError(
            f"model_type of {config.where} is {kind!r}, expected one of {known}; "
            "any other torch.nn.Module can be traced with workloads.torch"
        )
    return READERS[kind](config)
