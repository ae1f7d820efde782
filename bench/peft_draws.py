"""Do the averaged probabilities of PEFT under `sample`'s draws equal this program's?

    ivon-lora sample --adapter RUN --draws 3 --out draws
    ivon-lora predict --adapter RUN --data ROWS --samples 3 --include-text --eval-limit 20 > predictions.jsonl
    python bench/peft_draws.py models/smollm2-135m-instruct predictions.jsonl draws/*

Prints the largest difference of a choice's probability. Needs torch, transformers and peft; with a base in GGUF also gguf.
"""
import glob, json, os, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, predictions, *draws = sys.argv[1:]
blocks = glob.glob(os.path.join(base, "*.gguf"))
file = {"gguf_file": os.path.basename(blocks[0])} if blocks else {}
tokenizer = AutoTokenizer.from_pretrained(base, **file)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **file).eval()
for number, draw in enumerate(sorted(draws)):
    if number == 0:
        model = PeftModel.from_pretrained(model, draw, adapter_name="draw-0")
    else:
        model.load_adapter(draw, adapter_name=f"draw-{number}")
with open(predictions, encoding="utf-8") as lines:
    rows = [json.loads(line) for line in lines]
worst = 0.0
with torch.inference_mode():
    for row in rows:
        ids = torch.tensor([tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]])
        choices = [choice[0] for choice in row["choice_tokens"]]
        total = torch.zeros(len(choices), dtype=torch.float64)
        for number in range(len(draws)):
            model.set_adapter(f"draw-{number}")
            total += model(input_ids=ids).logits[0, -1, choices].double().softmax(-1)
        difference = total / len(draws) - torch.tensor(row["probabilities"], dtype=torch.float64)
        worst = max(worst, difference.abs().max().item())
print(f"averaged over {len(draws)} draws: {worst:.2e} over {len(rows)} rows")
