#!/usr/bin/env python3
"""Writes the data of the guide's pages into the current folder, from the folder of public data sets.

    docs/guide/data.py PUBLIC_DATA

- reviews.csv: 2,400 sentences of sst2 with the words negative and positive (page 1 and 2).
- new-reviews.csv: 100 others, without labels.
- fraud/train.csv, calibrate.csv, test.csv: 1,000 messages to a bank each, 50 of which report a fraud
  (page "a rare class"): clinc150's intent `report fraud` against its other intents of banking and 750
  messages about something else.
"""

import csv
import json
import random
import sys
from pathlib import Path

REVIEWS, NEW = 2400, 100
FRAUDS, OTHERS, ELSEWHERE = 150, 2100, 750


def rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write(path, head, lines):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(lines)


def reviews(sst2):
    """The first sentences of at least four words, each once."""
    seen = {}
    for row in rows(sst2 / "train.jsonl"):
        text = row["text"].strip()
        if len(text.split()) >= 4:
            seen.setdefault(text, row["label"])
    words = [(text, ["negative", "positive"][label]) for text, label in seen.items()]
    write("reviews.csv", ["text", "sentiment"], words[:REVIEWS])
    new = words[REVIEWS : REVIEWS + NEW]
    write("new-reviews.csv", ["text"], [[text] for text, _ in new])


def fraud(clinc):
    """A third of the frauds and of the others in each of three files, in a fixed random order."""
    banking = [row for name in ["train", "validation", "test"] for row in rows(clinc / f"{name}.jsonl")]
    elsewhere = rows(clinc / "out_of_scope.jsonl")
    frauds = [row for row in banking if row["label"] == "report fraud"]
    others = [row for row in banking if row["label"] != "report fraud"]
    order = random.Random(0)
    for part in [frauds, others, elsewhere]:
        order.shuffle(part)
    assert (len(frauds), len(others)) == (FRAUDS, OTHERS)
    Path("fraud").mkdir(exist_ok=True)
    for place, name in enumerate(["train", "calibrate", "test"]):
        chosen = [(row["id"], row["text"], "yes") for row in frauds[place::3]]
        quiet = others + elsewhere[:ELSEWHERE]
        chosen += [(row["id"], row["text"], "no") for row in quiet[place::3]]
        order.shuffle(chosen)
        write(f"fraud/{name}.csv", ["id", "text", "fraud"], chosen)


if __name__ == "__main__":
    public = Path(sys.argv[1])
    reviews(public / "sst2")
    fraud(public / "clinc_banking")
