#!/bin/bash
# Answers of each cell of bench/results/text.toml to test prompts, scored against references:
#   write.sh IVON-LORA runs/text runs/text-data [PROMPTS]
# The adapter of AdamW is a point: its ten samples are drawn at temperature 1. IVON's are greedy under ten draws.
set -e
program=$1 cells=$2/cells data=$3 prompts=${4:-100}
for cell in "$cells"/*/*/*; do
    seed=$(basename "$cell"); method=$(basename "$(dirname "$cell")"); task=$(basename "$(dirname "$(dirname "$cell")")")
    out=$2/written/$task/$method/$seed
    if [ -e "$out/answers.jsonl" ] || [ ! -e "$cell/finished.json" ]; then continue; fi
    case $task in banking77) how="--max-tokens 16 --quality exact" ;; *) how="--max-tokens 64 --quality chrf --right-from 0.6" ;; esac
    case $method in adamw) how="$how --temperature 1" ;; esac
    "$program" evaluate --adapter "$cell/adapter" --model models/smollm2-135m-instruct --data "$data/$task/test.jsonl" \
        --eval-limit "$prompts" --write --samples 10 $how --threads 1 --out "$out" --quiet
done
