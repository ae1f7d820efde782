"""How many flipped labels `ivon-lora rank` finds: 10 % of the training labels are given to another class, the run is
trained on them, and its training rows are ranked by each score; recall is the share of flipped rows among the first
10 %.

    python bench/results/rank.py --binary target/release/ivon-lora --model models/smollm2-135m-instruct \
        --data ../shared/data --out bench/results/rank.jsonl

A line for each task, seed, number of epochs and score.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile

TASKS = {
    "sst2": ("sst2/train.jsonl", ["--task", "sst2"], 300, 2),
    "clinc_banking": (
        "clinc_banking/train.jsonl",
        ["--prompt", "What does this customer of a bank ask about? {text} Intent:", "--label-reading", "index", "--scoring", "answer"],
        300,
        15,
    ),
}
INTENTS = ["transfer", "balance", "freeze account", "transactions", "pay bill", "spending history", "bill due", "routing", "pin change", "account blocked", "report fraud", "min payment", "interest rate", "bill balance", "order checks"]


def rows_of(path, task, count, numbers):
    with open(path) as lines:
        rows = [json.loads(line) for line in lines]
    numbers.shuffle(rows)
    rows = rows[:count]
    if task == "clinc_banking":
        for row in rows:
            row["label"] = INTENTS.index(row["label"])
    return rows


def main():
    parser = argparse.ArgumentParser()
    for name in ["binary", "model", "data", "out"]:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seeds", default="21,42,87")
    parser.add_argument("--steps", default="150,450", help="of four rows; 75 are an epoch")
    parser.add_argument("--threads", default="1")
    args = parser.parse_args()
    done = set()
    if os.path.exists(args.out):
        with open(args.out) as lines:
            done = {(line["task"], line["seed"], line["steps"]) for line in map(json.loads, lines)}
    for task, (file, flags, count, classes) in TASKS.items():
        for seed in map(int, args.seeds.split(",")):
            numbers = random.Random(seed)
            rows = rows_of(os.path.join(args.data, file), task, count, numbers)
            flipped = set(numbers.sample(range(count), count // 10))
            for place in flipped:
                others = [label for label in range(classes) if label != rows[place]["label"]]
                rows[place]["label"] = numbers.choice(others)
            wrong = {rows[place]["id"] for place in flipped}
            for steps in map(int, args.steps.split(",")):
                if (task, seed, steps) in done:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    data = os.path.join(folder, "data")
                    os.mkdir(data)
                    train = os.path.join(data, "train.jsonl")
                    # The run wants a few rows to score; nothing here depends on them.
                    for path, part in [(train, rows), (os.path.join(data, "validation.jsonl"), rows[:8])]:
                        with open(path, "w") as out:
                            out.writelines(json.dumps(row) + "\n" for row in part)
                    config = os.path.join(folder, "shares.toml")
                    with open(config, "w") as out:
                        out.write("[data]\ntune_share = 0.0\ncalibrate_share = 0.0\n")
                    answers = ["--answers", ",".join(INTENTS)] if task == "clinc_banking" else []
                    run = os.path.join(folder, "run")
                    command = [args.binary, "train", "--model", args.model, "--config", config, "--data", data, *flags, *answers, "--out", run, "--steps", str(steps), "--batch-size", "4", "--seed", str(seed), "--threads", args.threads, "--quiet"]
                    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                    for score in ["leave-one-out", "loss", "mutual-information", "entropy"]:
                        ranked = [args.binary, "rank", "--model", args.model, "--adapter", run, "--data", train, "--by", score, "--json", "--threads", args.threads]
                        found = subprocess.run(ranked, check=True, capture_output=True, text=True).stdout.splitlines()
                        first = [json.loads(line)["id"] for line in found[: count // 10]]
                        line = {"task": task, "seed": seed, "steps": steps, "score": score, "rows": count, "flipped": len(wrong), "recall": len(wrong & set(first)) / len(wrong)}
                        print(json.dumps(line), flush=True)
                        with open(args.out, "a") as out:
                            out.write(json.dumps(line) + "\n")


main()
