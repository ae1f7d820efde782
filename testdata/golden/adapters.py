"""Adapters with options beyond rank and alpha: patterns of ranks and alphas, and DoRA.

    pip install torch transformers peft safetensors
    python testdata/golden/adapters.py

For each case: PEFT's folder for the golden tiny model of a family (tiny/FAMILY, whose sequences, choices and
labels are used), and in expected.json the logits of the last token, adapted and merged, the mean cross-entropy
over the choices, and its gradients.
"""
import copy
import json
import pathlib

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


def last_logits(model, sequences):
    return torch.stack([model(torch.tensor([tokens])).logits[0, -1] for tokens in sequences])


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
            parameter.data = 0.2 * torch.randn(parameter.shape)
    out = HERE / "adapters" / name
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    # A relative base, as the folder of another machine means nothing.
    text = json.loads((out / "adapter_config.json").read_text())
    text["base_model_name_or_path"] = f"tiny/{family}"
    text["target_modules"] = sorted(text["target_modules"])
    (out / "adapter_config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")

    model.train()
    sequences, choices = of_family["sequences"], of_family["choice_ids"]
    logits = last_logits(model, sequences)
    loss = torch.nn.functional.cross_entropy(logits[:, choices], torch.tensor(of_family["labels"]))
    loss.backward()
    gradients = {
        path: parameter.grad.tolist() for path, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.eval()
    with torch.no_grad():
        adapted = last_logits(model, sequences)
        merged = last_logits(copy.deepcopy(model).merge_and_unload(), sequences)
    import peft, transformers
    expected = {
        "what": f"PEFT {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}",
        "family": family, "adapted_logits": adapted.tolist(), "merged_logits": merged.tolist(),
        "loss": loss.item(), "gradients": gradients,
    }
    (out / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    for name, (family, options) in CASES.items():
        case(name, family, options)
