"""Count parameters and FLOPs of every shipped config with transformers, for `tests/data/models.json`.

    python tests/make_reference.py          # needs torch and transformers >= 5, which the tests do not

All on the meta device. FLOPs are those PyTorch's counter sees in one forward pass at batch 2 and 128 tokens (3000
frames for Whisper, the image for ViT), with eager attention, and experts as batched products (so that each token is
counted once for every expert it visits).
It also compares the name and shape of every parameter with ours (`checkpoint_names`), and prints what differs.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from pathlib import Path

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from workloads.huggingface import architecture, checkpoint_names, load_config, shipped, transformer

BATCH, SEQ = 2, 128
CLASSES = {
    "bert": "BertModel", "roberta": "RobertaModel", "distilbert": "DistilBertModel", "vit": "ViTForImageClassification",
    "mpt": "MptForCausalLM",
}  # fmt: skip
# Renamed since version 4, whose names checkpoints have.
RENAMED = {
    "vit": ((r"attention\.attention\.(\w)\w+\.", r"attention.\1_proj."), ("attention.output.dense", "attention.o_proj"),
            ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"), (r"encoder\.layer\.", "layers.")),
    "mixtral": (("block_sparse_moe", "mlp"),),
    "gpt_neox": (("embed_out", "lm_head"),),
}  # fmt: skip


def model_of(name: str) -> torch.nn.Module:
    raw = load_config(name)
    kind = str(raw.pop("model_type"))
    raw.pop("_name_or_path")
    config = transformers.AutoConfig.for_model(kind, **{k: v for k, v in raw.items() if k != "torch_dtype"})
    config._attn_implementation = "eager"
    config._experts_implementation = "batched_mm"
    cls = getattr(transformers, CLASSES.get(kind, raw["architectures"][0]))
    with torch.device("meta"):
        model = cls(config)
    model.tie_weights()
    return model.eval()


def inputs_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    kind, config = model.config.model_type, model.config
    ids = torch.zeros((BATCH, SEQ), dtype=torch.long, device="meta")
    if kind == "vit":
        side = config.image_size
        return {"pixel_values": torch.zeros((BATCH, 3, side, side), device="meta")}
    if kind == "whisper":
        frames = torch.zeros((BATCH, config.num_mel_bins, 3000), device="meta")
        return {"input_features": frames, "decoder_input_ids": ids}
    return {"input_ids": ids, "decoder_input_ids": ids} if kind == "t5" else {"input_ids": ids}


def flops_of(model: torch.nn.Module) -> int:
    # It looks at values, which meta tensors have not; nothing is packed here.
    transformers.masking_utils.find_packed_sequence_indices = lambda position_ids: None
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(**inputs_of(model))
    return counter.get_total_flops()


def compare_names(name: str, model: torch.nn.Module) -> list[str]:
    """Weights of ours that no parameter of transformers ends with, by name and shape, and those left over."""
    kind, arch, names = model.config.model_type, architecture(name), checkpoint_names(name)
    theirs = Counter(
        (re.sub(r"\.\d+\.", ".*.", key, count=1), tuple(p.shape))
        for key, p in model.named_parameters(remove_duplicate=True)
    )
    wrong = []
    for weight in transformer(name, batch=1, seq=8).weights:
        key, shape = names[weight.tensor.name], weight.tensor.shape
        if "*" not in key:
            key = re.sub(r"\.\d+\.", ".*.", key, count=1)
        for old, new in RENAMED.get(kind, ()):
            key = re.sub(old, new, key)
        if ".experts." in key:
            continue  # stored fused since version 5
        if arch.stored_transposed and len(shape) == 2 and ".embed" not in weight.tensor.name and "c_" in key:
            shape = shape[::-1]
        found = next((k for k in theirs if (k[0] == key or k[0].endswith("." + key)) and k[1] == shape), None)
        if found is None:
            wrong.append(f"{name}: {weight.tensor.name} as {key} {shape} not found")
        else:
            theirs[found] -= weight.count
            if theirs[found] <= 0:
                del theirs[found]
    left = [f"{name}: {key} left over" for key in theirs if ".experts." not in key[0]]
    return wrong + left


def main() -> None:
    table = {}
    for name in sys.argv[1:] or shipped():
        model = model_of(name)
        parameters = sum(math.prod(p.shape) for p in model.parameters())
        row = {"parameters": parameters, "flops": flops_of(model)}
        ours = transformer(name, batch=BATCH, seq=SEQ)
        print(name, row, "ours", ours.parameters - parameters, ours.flops - row["flops"], flush=True)
        for difference in compare_names(name, model):
            print(difference)
        table[name] = row
    made = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0], "models": table}
    if not sys.argv[1:]:
        path = Path(__file__).parent / "data" / "models.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
