"""`explain`: what it says is what the price is made of, on machines of each family; and what the command refuses."""

import json

import numpy as np
import pytest

from simsparse import simulate
from simsparse.cli import main
from simsparse.explain import Explanation, explain_calls, explain_product
from simsparse.products import Products, Style, price_products
from simsparse.registry import load_machine

CARD = "a100-sxm-80gb"


def of_product(machine: str, pattern: str = "2:4", dtype: str = "fp16", m: int = 4096) -> Explanation:
    target = load_machine(machine)
    return explain_product(target, price_products(target, Products([(m, 512, 512, 1)], [Style(pattern, "A", dtype)])))


def test_terms_of_a_card_are_the_product_of_the_facts() -> None:
    for side in of_product(CARD).sides:
        facts = {fact.name: fact.value for fact in side.facts}
        clock_hz = facts["clock of tensor cores"] * facts["card.clock_fraction"]
        compute_s = facts["waves"] * facts["cycles a block multiplies"] / clock_hz
        assert dict(side.terms_s)["compute"] == pytest.approx(compute_s, rel=1e-12)
        # The whole waves, of which the last one is filled in part.
        assert facts["waves"] == pytest.approx(np.ceil(facts["waves"]) - 1 + facts["last wave filled"], rel=1e-12)
    sparse, dense = ({fact.name: fact.value for fact in side.facts} for side in of_product(CARD).sides)
    assert (sparse["MACs executed"], dense["MACs executed"]) == (4096 * 512 * 512 / 2, 4096 * 512 * 512)
    # Whole tiles here: a dense instruction is 16 × 8 × 16 multiply-accumulates, a sparse one counts for twice as many.
    assert dense["instructions, mma of 16 × 8 × 16"] == 4096 * 512 * 512 / 2048
    assert sparse["instructions, mma of 16 × 8 × 16"] == 4096 * 512 * 512 / 4096
    assert sparse["A in memory"] == 4096 * 512 * 9 / 8


def test_constants_say_where_they_come_from() -> None:
    sources = {fact.name: fact.source for side in of_product(CARD).sides for fact in side.facts}
    assert sources["cublas.fill_s"].startswith("fitted on ")
    assert sources["cublas.launch_s"] == "assumed"
    assert sources["card.dram_fraction"] == "fitted on this card"
    changed = load_machine(CARD, {"sm_count": 160, "constants.cublas.launch_s": 5e-6})
    found = explain_product(changed, price_products(changed, Products([(512, 512, 512, 1)], [Style()])))
    assert {fact.name: fact.source for fact in found.sides[0].facts}["cublas.launch_s"] == "set by the user"
    assert {fact.name: fact.value for fact in found.sides[0].facts}["SMs"] == 160


@pytest.mark.parametrize(
    ("machine", "dtype", "name"),
    [
        ("xeon-8480plus", "fp32", "cores busy"),
        ("sat-u280", "fp16", "array cycles"),
        ("stc", "int8", "multipliers busy"),
    ],
)
def test_other_families_give_their_own_facts(machine: str, dtype: str, name: str) -> None:
    found = of_product(machine, "2:4", dtype, m=256)
    assert found.rule.count("latency")
    for side in found.sides:
        assert name in {fact.name for fact in side.facts}
        assert all(fact.source for fact in side.facts if fact.topic in ("rates", "constants"))
    assert {"multipliers busy": 1.0}.items() <= {
        fact.name: fact.value for fact in of_product("stc", "2:4", "int8", m=256).sides[0].facts
    }.items()


def test_a_layer_of_a_model_beside_its_dense_twin() -> None:
    target = load_machine(CARD)
    result = simulate("gpt2", target, sparsity={"*.mlp.*": "2:4"}, phase="prefill", seq=512)
    found = explain_calls(target, result, "*.mlp.c_*")
    assert len(found) == sum(any(".mlp.c_" in op for op in call.ops) for call in result.plan.calls) > 0
    for each in found:
        sparse, dense = each.sides
        assert each.speedup == pytest.approx(dense.latency_s / sparse.latency_s, rel=1e-12)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    product = ["explain", "4096", "512", "512", "--on", CARD, "--pattern", "2:4"]
    assert main(product) == 0
    text = capsys.readouterr().out
    for part in ("bound by", "last wave filled", "instructions, mma", "core    = (compute^p", "also tried"):
        assert part in text
    assert main([*product, "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["explanations"]
    assert found["sides"][0]["terms_s"]["compute"] == dict(of_product(CARD).sides[0].terms_s)["compute"]
    assert main([*product, "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("job,pattern,kernel,topic,name,value,unit,source\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["4096", "512"], "what to explain is '4096 512', expected three extents M N K, or one workload"),
        (["gpt2"], "--op is missing, expected the glob of the ops of 'gpt2' to explain"),
        (["gpt2", "--op", "*.mpl.*"], "no op is named '*.mpl.*'"),
        (["0", "512", "512"], "M is 0, expected from 1 to 2^40"),
        (["1", "1", "1", "--pattern", "2:4", "--pattern", "1:4"], "--sparsity is '2:4, 1:4', expected one pattern"),
    ],
)
def test_command_refuses(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments, "--on", CARD]) == 2
    assert said in capsys.readouterr().err
