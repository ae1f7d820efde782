"""Adapters with options beyond rank and alpha: patterns of ranks and alphas, DoRA, and the tables over the vocabulary.

    pip install torch transformers peft safetensors
    python testdata/golden/adapters.py [CASE ...]

For each case: PEFT's folder for the golden tiny model of a family (tiny/FAMILY, whose sequences, choices and
labels are used), and in expected.json the logits of the last token, adapted and merged, the mean cross-entropy
over the choices, and its gradients; for the cases with tables also those of the cross-entropy over the vocabulary.
"""
import json
import pathlib
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# The first key in alphabetical order counts where two match: PEFT saves them sorted.
PATTERNS = {
    "rank_pattern": {"layers.1.*.v_proj": 5, "q_proj": 2, "v_proj": 3},
    "alpha_pattern": {"^model.layers.2.mlp.down_proj": 1, "q_proj": 6.5, "self_attn.v_proj": 3},
}
CASES = {
    "patterns": ("qwen2", {"target_modules": ["q_proj", "v_proj", "down_proj"], **PATTERNS}),
    "patterns-rslora": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"], "use_rslora": True, **PATTERNS}),
    "dora": ("qwen2", {"target_modules": EVERY, "use_dora": True}),
    "dora-patterns": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"], "use_dora": True, **PATTERNS}),
}


# With A and B on the tables, or the tables as a whole, of untied and of tied models; with multipliers and limits of
# embeddings and logits, and inputs of the layers that come from the embedding.
TABLES = {
    "head": ("llama", {"target_modules": ["v_proj", "lm_head"], "rank_pattern": {"lm_head": 3}}),
    "embeddings": ("llama", {"target_modules": ["v_proj", "embed_tokens"], "alpha_pattern": {"embed_tokens": 3}}),
    "head-tied": ("qwen2", {"target_modules": ["v_proj", "lm_head"]}),
    "embeddings-tied": ("gemma2", {"target_modules": r".*(v_proj|embed_tokens)"}),
    "tables-tied": ("qwen2", {"target_modules": ["v_proj", "embed_tokens", "lm_head"], "use_rslora": True}),
    "tables-layer-inputs": ("gemma4", {"target_modules": ["per_layer_model_projection", "embed_tokens", "lm_head"]}),
    "tables-multiplied": ("granite", {"target_modules": ["v_proj", "embed_tokens", "lm_head"]}),
    "saved-head": ("llama", {"target_modules": ["v_proj"], "modules_to_save": ["lm_head"]}),
    "saved-embeddings-tied": ("gemma4", {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"]}),
    "saved-tables-tied": ("granite", {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}),
    "saved-and-adapted": ("llama", {"target_modules": ["v_proj", "lm_head"], "modules_to_save": ["embed_tokens"]}),
    "kept-tied": ("qwen2", {"target_modules": ["v_proj", "embed_tokens"], "ensure_weight_tying": True}),
    "saved-kept-tied": (
        "qwen2", {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    ),
}


def last_logits(model, sequences):
    return torch.stack([model(torch.tensor([tokens])).logits[0, -1] for tokens in sequences])


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    trained = model.named_parameters()
    return {path: parameter.grad.tolist() for path, parameter in trained if parameter.grad is not None}


def short(value):
    """Numbers with seven digits: more than f32 has."""
    if isinstance(value, dict):
        return {key: short(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [short(inner) for inner in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def case(name, family, options):
    torch.manual_seed(len(name))
    of_family = json.loads((HERE / "tiny" / family / "expected.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(HERE / "tiny" / family, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.0, **options)
    model = get_peft_model(base, config)
    for path, parameter in model.named_parameters():
        if "magnitude" in path:
            parameter.data *= 1 + 0.2 * torch.randn(parameter.shape)
        elif "lora_" in path:
            # In place: factors that are tied share their numbers.
            parameter.data.copy_(0.2 * torch.randn(parameter.shape))
        elif parameter.requires_grad:
            parameter.data.copy_(parameter.data + 0.05 * torch.randn(parameter.shape))
    out = HERE / "adapters" / name
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    # A relative base, as the folder of another machine means nothing.
    text = json.loads((out / "adapter_config.json").read_text())
    text["base_model_name_or_path"] = f"tiny/{family}"
    if isinstance(text["target_modules"], list):
        text["target_modules"] = sorted(text["target_modules"])
    (out / "adapter_config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")

    model.train()
    sequences, choices = of_family["sequences"], of_family["choice_ids"]
    logits = last_logits(model, sequences)
    loss = torch.nn.functional.cross_entropy(logits[:, choices], torch.tensor(of_family["labels"]))
    gradients = gradients_of(model, loss)
    more = {}
    if name in TABLES:
        tokens = torch.tensor(choices)[torch.tensor(of_family["labels"])]
        over_all = torch.nn.functional.cross_entropy(last_logits(model, sequences), tokens)
        more = {"loss_over_all": over_all.item(), "gradients_over_all": gradients_of(model, over_all)}
    model.eval()
    with torch.no_grad():
        adapted = last_logits(model, sequences)
        merged = last_logits(model.merge_and_unload(), sequences)
    import peft, transformers
    expected = {
        "what": f"PEFT {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}",
        "family": family, "adapted_logits": adapted.tolist(), "merged_logits": merged.tolist(),
        "loss": loss.item(), "gradients": gradients, **more,
    }
    (out / "expected.json").write_text(json.dumps(short(expected) if more else expected) + "\n")


if __name__ == "__main__":
    for name, (family, options) in {**CASES, **TABLES}.items():
        if name in sys.argv[1:] or len(sys.argv) == 1:
            case(name, family, options)
