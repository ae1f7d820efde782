#!/usr/bin/env python3
"""Compares cells of a comparison with those of AdamW: the mean difference, with the 95 % interval of 2,000 paired bootstrap samples
of seeds and rows.

    scripts/paired.py runs/comparison/cells/sst2 21,42,87,100,123 ivon blob laplace-kronecker-prior-by-nll
"""
import json
import math
import random
import sys
from pathlib import Path

folder, seeds = Path(sys.argv[1]), sys.argv[2].split(",")
WAYS = {"mean": "probabilities_at_mean", "samples": "probabilities"}
SCORES = {
    "accuracy": lambda p, label: float(max(range(len(p)), key=lambda i: (p[i], -i)) == label),
    "NLL": lambda p, label: -math.log(p[label]),
    "Brier": lambda p, label: sum((q - (i == label)) ** 2 for i, q in enumerate(p)),
}


def scores(method, way, score):
    def of(seed):
        with open(folder / method / seed / "predictions.jsonl", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [score(row[WAYS[way]], row["label"]) for row in rows]

    return [of(seed) for seed in seeds]


def paired(one, other):
    differences = [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(one, other, strict=True)]
    rows = range(len(differences[0]))

    def mean(seeds, rows):
        return sum(differences[s][r] for s in seeds for r in rows) / (len(seeds) * len(rows))

    numbers = random.Random(0)
    draw = lambda items: numbers.choices(items, k=len(items))
    drawn = sorted(mean(draw(range(len(seeds))), draw(rows)) for _ in range(2000))
    return f"{mean(range(len(seeds)), rows):+.3f} [{drawn[49]:+.3f}, {drawn[1949]:+.3f}]"


for method in sys.argv[3:]:
    for way in WAYS:
        cells = [paired(scores(method, way, score), scores("adamw", "mean", score)) for score in SCORES.values()]
        print(f"{method}, {way}:", ", ".join(f"{name} {cell}" for name, cell in zip(SCORES, cells)))
