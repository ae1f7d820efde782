"""What transformers' logits processors make of given logits: sampling.json.

    pip install torch transformers
    python testdata/golden/sampling.py

For each case: the processors that `generate` would use, in its order, and the log-probabilities of the tokens that
they keep (by token id). The logits are those of generate.py's `normals`.
"""
import json
import pathlib

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
    TopKLogitsWarper, TopPLogitsWarper)

from generate import normals

HERE = pathlib.Path(__file__).resolve().parent
SEEN = [3, 17, 3, 40, 5]
CASES = [
    {"temperature": 0.7},
    {"temperature": 1.8},
    {"top_k": 7},
    {"top_k": 1000},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"top_p": 0.01},
    {"min_p": 0.1},
    {"min_p": 0.9},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"temperature": 0.6, "top_k": 20, "top_p": 0.9},
    {"temperature": 1.5, "top_k": 30, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.2},
    {"temperature": 2.0, "top_p": 0.7, "min_p": 0.02},
]
MAKERS = [  # in the order of GenerationMixin._get_logits_processor
    ("repetition_penalty", RepetitionPenaltyLogitsProcessor), ("temperature", TemperatureLogitsWarper),
    ("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper), ("min_p", MinPLogitsWarper)]


def kept(logits, settings):
    processors = LogitsProcessorList([maker(settings[name]) for name, maker in MAKERS if name in settings])
    scores = processors(torch.tensor([SEEN]), torch.tensor([logits], dtype=torch.float32))[0]
    return {str(i): float(x) for i, x in enumerate(scores.log_softmax(-1)) if x > -float("inf")}


def main():
    cases = []
    for index, settings in enumerate(CASES):
        logits = [3.0 * x for x in normals(100 + index, 60).tolist()]
        cases.append({**settings, "normals": 100 + index, "log_probabilities": kept(logits, settings)})
    out = {"what": "log-probabilities of the tokens that transformers' logits processors keep; the logits are 3 times the 60 "
           "normals of this seed, and `seen` are the tokens so far", "seen": SEEN, "cases": cases}
    (HERE / "sampling.json").write_text(json.dumps(out, indent=1) + "\n")


main()
