"""Checks that PEFT reads what ivon-lora wrote, and predicts the same.

    ivon-lora train … --include-text --out RUN
    python scripts/check_peft.py --model models/smollm2-135m-instruct --run RUN [--limit 20]

Loads the base with transformers and RUN/adapter with PEFT, recomputes the probabilities of RUN/predictions.jsonl at the
mean, and prints the largest difference. Exits with 1 if it is above 1e-3. Needs torch, transformers, peft (and gguf
for a GGUF base): scripts/reference-environment sets up such a Python.
"""
import argparse, glob, json, os, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--limit", type=int, default=20)
    arguments = parser.parse_args()
    gguf = glob.glob(os.path.join(arguments.model, "*.gguf"))
    extra = dict(gguf_file=os.path.basename(gguf[0])) if gguf else {}
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, **extra)
    base = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, **extra)
    model = PeftModel.from_pretrained(base, os.path.join(arguments.run, "adapter")).eval()
    worst, count = 0.0, 0
    with open(os.path.join(arguments.run, "predictions.jsonl"), encoding="utf-8") as file, torch.inference_mode():
        for line in list(file)[: arguments.limit]:
            row = json.loads(line)
            if any(len(tokens) != 1 for tokens in row["choice_tokens"]):
                sys.exit("only choices of one token are checked here")
            logits = model(torch.tensor([tokenizer.encode(row["prompt"])])).logits[0, -1]
            probabilities = logits[[tokens[0] for tokens in row["choice_tokens"]]].double().softmax(0)
            difference = (probabilities - torch.tensor(row["probabilities_at_mean"], dtype=torch.double)).abs().max()
            worst, count = max(worst, float(difference)), count + 1
    print(f"{count} predictions, largest difference of a probability {worst:.2e}")
    sys.exit(worst > 1e-3)


if __name__ == "__main__":
    main()
