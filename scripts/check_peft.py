"""Checks that PEFT reads what ivon-lora wrote, and computes the same.

    ivon-lora train … --include-text --out RUN
    python scripts/check_peft.py --model models/smollm2-135m-instruct --run RUN [--limit 20]

Loads the base with transformers and RUN/adapter with PEFT, recomputes the probabilities of RUN/predictions.jsonl at the
mean, and prints the largest difference. Exits with 1 if it is above 1e-3.

    IVON_LORA_PEFT_OUT=FOLDER cargo test --workspace --lib -- forward::tests::written
    python scripts/check_peft.py --families FOLDER

The test writes adapters for the golden model of each family to FOLDER/FAMILY/CASE, with our logits beside them. This
loads them with PEFT, and prints the largest difference of a logit as a part of the largest logit. Exits with 1 if one
is above 1e-4, or if `all-linear` is not PEFT's set of layers.

Needs torch, transformers, peft (and gguf for a GGUF base): scripts/reference-environment sets up such a Python.
"""
import argparse, glob, json, os, pathlib, sys
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "golden" / "tiny"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--run")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--families")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    if arguments.families:
        sys.exit(check_families(pathlib.Path(arguments.families)))
    if not (arguments.model and arguments.run):
        parser.error("--model and --run, or --families")
    sys.exit(check_run(arguments.model, arguments.run, arguments.limit))


def check_run(model, run, limit):
    """Whether probabilities of a run's predictions differ by more than 1e-3."""
    gguf = glob.glob(os.path.join(model, "*.gguf"))
    extra = dict(gguf_file=os.path.basename(gguf[0])) if gguf else {}
    tokenizer = AutoTokenizer.from_pretrained(model, **extra)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, **extra)
    model = PeftModel.from_pretrained(base, os.path.join(run, "adapter")).eval()
    worst, count = 0.0, 0
    with open(os.path.join(run, "predictions.jsonl"), encoding="utf-8") as file, torch.inference_mode():
        for line in list(file)[:limit]:
            row = json.loads(line)
            if any(len(tokens) != 1 for tokens in row["choice_tokens"]):
                sys.exit("only choices of one token are checked here")
            logits = model(torch.tensor([tokenizer.encode(row["prompt"])])).logits[0, -1]
            probabilities = logits[[tokens[0] for tokens in row["choice_tokens"]]].double().softmax(0)
            difference = (probabilities - torch.tensor(row["probabilities_at_mean"], dtype=torch.double)).abs().max()
            worst, count = max(worst, float(difference)), count + 1
    print(f"{count} predictions, largest difference of a probability {worst:.2e}")
    return worst > 1e-3


def base_of(family):
    return AutoModelForCausalLM.from_pretrained(GOLDEN / family, attn_implementation="eager", dtype=torch.float32).eval()


def adapted_modules(names):
    """The layers with an A or a B, by the names of parameters."""
    return {name.split(".lora_")[0].removeprefix("base_model.model.") for name in names if ".lora_" in name}


def check_families(folder):
    """Whether a logit differs by more than 1e-4 of the largest, or `all-linear` means other layers."""
    failed = False
    for family in sorted(path.name for path in folder.iterdir()):
        results = {}
        for case in sorted((folder / family).iterdir()):
            model = PeftModel.from_pretrained(base_of(family), case).eval()
            expected = json.loads((case / "logits.json").read_text())
            with torch.inference_mode():
                found = torch.cat([model(torch.tensor([tokens])).logits[0, -1] for tokens in expected["sequences"]])
            stated = torch.tensor(expected["logits"])
            results[case.name] = float((found - stated).abs().max() / stated.abs().max())
        with safe_open(folder / family / "all-linear" / "adapter_model.safetensors", "pt") as file:
            ours = adapted_modules(file.keys())
        config = LoraConfig(task_type="CAUSAL_LM", r=1, target_modules="all-linear")
        same = ours == adapted_modules(name for name, _ in get_peft_model(base_of(family), config).named_parameters())
        failed |= not same or not max(results.values()) <= 1e-4
        differences = ", ".join(f"{case} {difference:.1e}" for case, difference in results.items())
        print(f"{family}: {differences}; all-linear: {len(ours)} layers, {'the same' if same else 'OTHERS'} in PEFT")
    return failed


if __name__ == "__main__":
    main()
