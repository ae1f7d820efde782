"""Does llama.cpp compute what this program computes? An exported adapter, and draws, on the real model.

    ivon-lora export --adapter RUN --format gguf --out a.gguf
    ivon-lora sample --adapter RUN --draws 3 --format gguf --out draws
    ivon-lora predict --adapter RUN --data ROWS --samples 3 --include-text --eval-limit 20 > predictions.jsonl
    python bench/llama_check.py models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf predictions.jsonl a.gguf draws/*.gguf
    ivon-lora merge --adapter RUN --out merged.gguf --precision f16
    python bench/llama_check.py merged.gguf predictions.jsonl

The base is written as f32 first, since llama.cpp rounds activations to 8 bits where the base is in blocks. Prints the largest
difference of a choice's probability at the mean (with the first adapter), and averaged over the draws (the others).
Needs llama-cpp-python, gguf and numpy.
"""
import json, os, sys, tempfile
import gguf
import numpy as np
from llama_cpp import Llama


def as_f32(path, out):
    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(out, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        part = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, part)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def probabilities(base, adapter, rows):
    """Of the choices of each row, by the first token of each."""
    model = Llama(model_path=base, lora_path=adapter, n_ctx=1024, logits_all=True, verbose=False)
    found = []
    for row in rows:
        tokens = model.tokenize(row["prompt"].encode(), add_bos=False, special=True)
        model.reset()
        model.eval(tokens)
        logits = np.array(model.scores[len(tokens) - 1], dtype=np.float64)[[choice[0] for choice in row["choice_tokens"]]]
        weights = np.exp(logits - logits.max())
        found.append(weights / weights.sum())
    return np.array(found)


base, predictions, *adapters = sys.argv[1:]
with open(predictions, encoding="utf-8") as lines:
    rows = [json.loads(line) for line in lines]
ours = {key: np.array([row[key] for row in rows]) for key in ("probabilities_at_mean", "probabilities")}
if not adapters:
    # A merged model, as it lies in the file.
    at_mean = probabilities(base, None, rows)
    print(f"merged: {abs(at_mean - ours['probabilities_at_mean']).max():.2e} over {len(rows)} rows")
    raise SystemExit
adapter, *draws = adapters
with tempfile.TemporaryDirectory() as folder:
    whole = os.path.join(folder, "base.gguf")
    as_f32(base, whole)
    at_mean = probabilities(whole, adapter, rows)
    print(f"at the mean: {abs(at_mean - ours['probabilities_at_mean']).max():.2e} over {len(rows)} rows")
    untuned = probabilities(whole, None, rows)
    print(f"the adapter itself changes them by {abs(untuned - at_mean).max():.2f}")
    if draws:
        averaged = sum(probabilities(whole, draw, rows) for draw in sorted(draws)) / len(draws)
        print(f"averaged over {len(draws)} draws: {abs(averaged - ours['probabilities']).max():.2e}; draws change the mean's by "
              f"{abs(averaged - at_mean).max():.3f}")
