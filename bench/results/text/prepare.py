"""The two text tasks of bench/results/text.toml from the shared data sets, in a fixed random order (their files
are sorted by class and by name): `prepare.py ../shared/data runs/text-data`."""
import json, os, random, sys

source, out = sys.argv[1:]
for name in ("banking77", "e2e_nlg"):
    os.makedirs(os.path.join(out, name), exist_ok=True)
    for split in ("train", "test"):
        with open(os.path.join(source, name, split + ".jsonl"), encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        random.Random(0).shuffle(rows)
        with open(os.path.join(out, name, split + ".jsonl"), "w", encoding="utf-8") as file:
            for row in rows:
                if "label" in row:
                    prompt = f"Message: {row['text']} Intent:"
                    row = {"id": row["id"], "prompt": prompt, "completion": " " + row["label"]}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
