"""Bad configs and arguments: each is refused in one sentence."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_tools import changed

from simsparse.errors import InputError, SimsparseError, UnknownNameError
from simsparse.workload import Phase
from workloads.huggingface import load_config, shipped, transformer


def broken(write: Callable[[Path], object]) -> Callable[[Path], object]:
    def run(folder: Path) -> object:
        path = folder / "config.json"
        write(path)
        return transformer(path)

    return run


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken(lambda path: None), "cannot be read"),
        (broken(lambda path: path.write_text("{")), "is not JSON"),
        (broken(lambda path: path.write_text("[1]")), "holds a list, expected a JSON object"),
        (broken(lambda path: path.write_bytes(b"\xff\xfe\x00")), "is not JSON"),
        (broken(lambda path: path.write_text("[" * 100_000)), "is not JSON"),
        (broken(lambda path: path.mkdir()), "cannot be read"),
    ],
)
def test_broken_files_are_refused(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        make(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("llama-2-7b", hidden_size=...), "has no hidden_size, expected a whole number"),
        (changed("llama-2-7b", hidden_size=-4096), "hidden_size of .* is -4096, expected a whole number from 1"),
        (changed("llama-2-7b", vocab_size=0), "vocab_size of .* is 0"),
        (changed("llama-2-7b", num_hidden_layers=10**9), "num_hidden_layers .* from 1 to 10000"),
        (changed("llama-2-7b", intermediate_size=11008.5), "intermediate_size of .* is 11008.5"),
        (changed("llama-2-7b", num_attention_heads=True), "num_attention_heads of .* is True"),
        (changed("llama-2-7b", num_attention_heads=33), "4096 is not divisible by 33"),
        (changed("llama-2-7b", num_key_value_heads=5), "key-value heads is 5, expected a divisor of 32 heads"),
        (changed("llama-2-7b", hidden_size=2**31 - 1, head_dim=2**31 - 1), "fewer than 2\\^63 bytes"),
        (changed("llama-2-7b", tie_word_embeddings="no"), "is 'no', expected true or false"),
        (changed("llama-2-7b", torch_dtype="float7"), "dtype is 'float7'"),
        (changed("mixtral-8x7b", num_experts_per_tok=9), "experts per token is 9, expected at most 8"),
        (changed("gemma-2-2b", layer_types=["full_attention"]), "one type for each of 26 layers"),
        (changed("vit-base", patch_size=15), "image size is 224, expected a multiple of the patch size 15"),
        (changed("gpt-j-6b", rotary_dim=999), "rotary dimensions is 999, expected at most the head size 256"),
        (changed("phi-2", partial_rotary_factor=math.nan), "expected a number from 0 to 1"),
        (changed("llama-2-7b", model_type=7), "model_type of .* is 7, expected a string"),
    ],
)
def test_bad_configs_get_one_sentence(config: dict[str, object], message: str) -> None:
    with pytest.raises(SimsparseError, match=message) as caught:
        transformer(config)
    assert "\n" not in str(caught.value)


def test_unknown_models_are_told_the_known_ones_and_the_torch_way() -> None:
    with pytest.raises(UnknownNameError, match=r"'mamba', expected one of .*llama.*workloads\.torch"):
        transformer(changed("llama-2-7b", model_type="mamba"))
    with pytest.raises(UnknownNameError, match=r"near names: .*llama-2-7b"):
        transformer("llama2-7b")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gpt2", {"seq": 1025}, r"length of gpt2 \(context \+ seq\) is 1025, expected at most its 1024"),
        ("roberta-base", {"seq": 513}, "at most its 512 learned positions"),
        ("opt-125m", {"phase": "decode", "context": 2048}, "is 2049, expected at most its 2048"),
        ("llama-2-7b", {"batch": 0}, "batch is 0, expected a whole number"),
        ("llama-2-7b", {"batch": 1.5}, "batch is 1.5"),
        ("llama-2-7b", {"batch": True}, "batch is True"),
        ("llama-2-7b", {"seq": -1}, "seq is -1"),
        ("llama-2-7b", {"seq": 2**40, "batch": 2**40}, "2\\^63 bytes"),
        ("llama-2-7b", {"context": -1, "phase": "decode"}, "context is -1"),
        ("llama-2-7b", {"context": 5, "phase": "train"}, "context is 5, expected 0 in phase train"),
        ("llama-2-7b", {"phase": "dream"}, "phase is 'dream', expected one of prefill, decode, encode, train"),
        ("llama-2-7b", {"phase": "encode"}, "has no encoder, expected phase prefill"),
        ("bert-base", {"phase": "decode"}, "has no decoder, expected phase encode"),
        ("llama-2-7b", {"dtype": "fp17"}, "dtype is 'fp17'"),
        ("llama-2-7b", {"phase": "train", "optimizer": "lion"}, "optimizer is 'lion', expected one of sgd"),
    ],
)
def test_bad_arguments_get_one_sentence(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(SimsparseError, match=message):
        transformer(name, **options)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from([2**31, 2**63, -(2**70), 1e300, 0.5, math.nan]),
    st.text(max_size=4), st.lists(st.integers() | st.text(max_size=3), max_size=3), st.just({}), st.just({"a": 1}),
)  # fmt: skip


@given(name=st.sampled_from(sorted(shipped())), phase=st.sampled_from(list(Phase)), data=st.data())
@settings(max_examples=250, deadline=None)
def test_any_config_makes_a_workload_or_one_sentence(name: str, phase: Phase, data: st.DataObject) -> None:
    config = load_config(name)
    keys = st.sampled_from(sorted(config))
    config |= data.draw(st.dictionaries(keys | st.sampled_from(["head_dim", "rope_parameters"]), ODD, max_size=3))
    with contextlib.suppress(SimsparseError):
        workload = transformer(config, phase=phase, batch=data.draw(st.integers(1, 3)))
        assert workload.flops > 0
        assert workload.activation_bytes > 0


def in_dictionaries(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.dictionaries(st.text(max_size=3), values)


@given(text=st.text(max_size=40) | st.recursive(ODD, in_dictionaries).map(str))
@settings(max_examples=60, deadline=None)
def test_any_text_is_no_config(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "config.json"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(SimsparseError):
        transformer(path)
