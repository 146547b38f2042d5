"""Schema of alias tables: what the texts of measurement rows mean; see `simsparse.alias_reader`."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simsparse.machine import BEST


class Alias(BaseModel):
    """An entry: what a text must contain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str = Field(min_length=1, description="Regular expression, searched in the text, case ignored.")

    @field_validator("match")
    @classmethod
    def _compiles(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from None
        return text

    def expanded(self, template: str, text: str) -> str:
        """A template with the groups of the match in `text`."""
        found = re.search(self.match, text, re.IGNORECASE)
        return found.expand(template) if found is not None else template

    def found_in(self, text: str) -> bool:
        """Whether it names `text`."""
        return re.search(self.match, text, re.IGNORECASE) is not None


Set = Annotated[
    dict[str, bool | float | str],
    Field(description=r"Spec fields of the machine; texts may use groups of the match: `\1`."),
]


class DeviceAlias(Alias):
    """A device text and its machine, or the reason why none stands for it."""

    machine: str = Field(default="", description=r"May use groups of the match: `rtx-\1-ti`.")
    set: Set = {}
    method: tuple[str, ...] = Field(default=(), description="Methods that its models go through.")
    reason: str = ""

    @model_validator(mode="after")
    def _says_one(self) -> Self:
        if bool(self.machine) == bool(self.reason):
            raise ValueError("a machine or a reason, not both")
        return self

    def machine_of(self, text: str) -> str:
        """The machine that `text` means."""
        return self.expanded(self.machine, text)


class ProductOfRow(BaseModel):
    """One of several products of a row; M, N and K of each are columns of the row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    m: Literal["M", "N", "K"]
    n: Literal["M", "N", "K"]
    k: Literal["M", "N", "K"]
    dense: bool = Field(default=False, description="Not sparse, whatever the row's pattern.")


class StreamOfRow(BaseModel):
    """A pass over a matrix, whose extents are columns of the row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["compress", "copy"] = Field(description="Pruned and packed, in sparse rows only; or copied.")
    rows: Literal["M", "N", "K"]
    columns: Literal["M", "N", "K"]


class SystemAlias(Alias):
    """A system text and how its rows are run."""

    kernel: str = Field(default=BEST, description="Of rows with a pattern.")
    dense_kernel: str = Field(default=BEST, description="Of dense rows.")
    weights: str = Field(default="B", pattern="^[AB]$", description="Which operand of a dense product is the weight.")
    model: str = Field(default="", description="Workload of rows that name no model.")
    phase: str = Field(default="", description="Phase to run instead of the row's.")
    on: tuple[str, ...] = Field(default=(), description="Globs of the ops of a model that have the pattern.")
    part: str = Field(default="", description="Glob of the contractions of a model that were timed.")
    products: tuple[ProductOfRow, ...] = Field(
        default=(), description="Products timed together, if not M x N x K alone."
    )
    streams: tuple[StreamOfRow, ...] = Field(default=(), description="Passes timed with the products, or alone.")
    pattern: str = Field(default="", description="Instead of a row's own, whose fraction zero `{zero}` stands for.")
    verify: int | None = Field(
        default=None, ge=1, description="Tokens after which the dense model reads them again in one step."
    )
    constant_fan_in: bool = Field(
        default=False, description="Every output keeps as many: `unstructured` is read as N of every K."
    )
    reason: str = Field(default="", description="Why its rows cannot be priced.")
    phases: tuple[str, ...] = Field(default=(), description="Phases of rows that the entry is for; all if empty.")
    framework: str = Field(default="", description="Who issues the kernels of its models, whatever the row says.")
    set: Set = {}
    context: int | None = Field(default=None, ge=0, description="Cached tokens in a decode whose row names none.")
    grows: bool = Field(default=False, description="Decodes start from nothing: the mean cache is half of `seq`.")
    method: tuple[str, ...] = Field(
        default=(), description="Methods that the model went through; `{devices}` stands for the row's."
    )


class DTypeAlias(Alias):
    """A text and its types."""

    dtype: str
    weight_dtype: str = ""


class ModelAlias(Alias):
    """A text and its workload."""

    workload: str = Field(description=r"May use groups of the match: `mobilenet-v1-\1`.")
    on: tuple[str, ...] = Field(default=(), description="Globs of the ops that sources prune in such a model.")
    set: Set = {}

    def workload_of(self, text: str) -> str:
        """The workload that `text` means."""
        return self.expanded(self.workload, text)


class Aliases(BaseModel):
    """One table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str = ""
    threads_field: str = Field(default="", description="Spec field that takes the column `threads`.")
    instances_field: str = Field(default="", description="Spec field that takes the column `instances`.")
    framework_field: str = Field(default="", description="Spec field that takes the column `framework` of models.")
    framework: dict[str, str] = Field(default={}, description="Texts of that column and what the field takes.")
    loop_field: str = Field(default="", description="Spec field that is true where a bare product is timed in a loop.")
    device: tuple[DeviceAlias, ...] = ()
    system: tuple[SystemAlias, ...] = ()
    dtype: tuple[DTypeAlias, ...] = ()
    model: tuple[ModelAlias, ...] = ()
