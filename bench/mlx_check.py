"""Does mlx-lm compute what this program computes with an exported adapter?

    ivon-lora export --adapter RUN --format mlx --out mlx
    ivon-lora predict --adapter RUN --data ROWS --samples 0 --include-text --eval-limit 20 > predictions.jsonl
    python bench/mlx_check.py BASE_AS_SAFETENSORS predictions.jsonl mlx

BASE_AS_SAFETENSORS is a folder with `rope_theta` in its config.json: mlx-lm does not read `rope_parameters`, by which
transformers 5 replaced it. Prints the largest difference of a choice's probability at the mean. Needs mlx-lm (on Linux with `mlx[cpu]`).
"""
import json, sys
import mlx.core as mx
import numpy as np
from mlx_lm import load

base, predictions, adapter = sys.argv[1:]
with open(predictions, encoding="utf-8") as lines:
    rows = [json.loads(line) for line in lines]


def probabilities(**adapter):
    model, tokenizer = load(base, **adapter)
    found = []
    for row in rows:
        ids = tokenizer.encode(row["prompt"], add_special_tokens=False)
        logits = np.array(model(mx.array([ids]))[0, -1].astype(mx.float32), dtype=np.float64)
        logits = logits[[choice[0] for choice in row["choice_tokens"]]]
        weights = np.exp(logits - logits.max())
        found.append(weights / weights.sum())
    return np.array(found)


ours = np.array([row["probabilities_at_mean"] for row in rows])
at_mean, untuned = probabilities(adapter_path=adapter), probabilities()
print(f"at the mean: {abs(at_mean - ours).max():.2e} over {len(rows)} rows; the adapter changes them by {abs(untuned - at_mean).max():.2f}")
