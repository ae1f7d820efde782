"""AdamW on text: this program and bench/text_reference.py (padded, and packed without padding) in turn, on the same rows.

    python3 bench/text_in_turn.py IVON-LORA PYTHON models/smollm2-135m-instruct runs/text-data/banking77 --steps 60 --rounds 3

PYTHON is that of a virtual environment with torch, transformers, peft and trl. Prints a line of JSON for each
run, then medians: seconds of the steps after the first, largest resident memory until training ends (ours: of the whole
run), NLL per token on test. The order of batches differs, so that NLLs agree within the spread over seeds.
"""
import argparse, json, os, statistics, subprocess, tempfile

def ours(given, seed):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "run")
        command = [given.program, "train", "--model", given.model, "--data", given.data, "--task", "completion", "--optimizer",
                   "adamw", "--learning-rate", "5e-4", "--steps", str(given.steps), "--batch-size", str(given.batch), "--seed",
                   str(seed), "--eval-interval", str(given.steps), "--eval-limit", str(given.eval_limit), "--threads",
                   str(given.threads), "--out", out, "--quiet"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        assert status == 0, status
        with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as lines:
            steps = [json.loads(line) for line in lines]
        seconds = [step["step_seconds"] for step in steps if "step_seconds" in step]
        with open(os.path.join(out, "evaluation.json"), encoding="utf-8") as file:
            report = json.load(file)
    return {"seconds": sum(seconds[1:]), "bytes": usage.ru_maxrss * 1024, "nll": report["mean_tokens"]["nll"]["value"]}


def theirs(given, seed, *more):
    command = [given.python, os.path.join(os.path.dirname(__file__), "text_reference.py"), "--model", given.model, "--data",
               given.data, "--steps", str(given.steps), "--batch", str(given.batch), "--lr", "5e-4", "--seed", str(seed),
               "--eval-limit", str(given.eval_limit), "--threads", str(given.threads), *more]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    found = json.loads(found.strip().splitlines()[-1])
    return {"seconds": found["training_seconds"], "bytes": found["peak_bytes_of_training"], "nll": found["test_nll"]}


parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("python")
parser.add_argument("model")
parser.add_argument("data")
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--eval-limit", type=int, default=100)
parser.add_argument("--threads", type=int, default=os.cpu_count())
given = parser.parse_args()
sides = {
    "ours": lambda seed: ours(given, seed),
    "TRL, padded": lambda seed: theirs(given, seed),
    "TRL, without padding": lambda seed: theirs(given, seed, "--padding-free"),
}
found = {name: [] for name in sides}
for seed in range(1, given.rounds + 1):
    for name, side in sides.items():
        found[name].append(side(seed))
        print(json.dumps({"side": name, "seed": seed, **found[name][-1]}), flush=True)
median = lambda name, key: statistics.median(run[key] for run in found[name])
for name in sides:
    nlls = [run["nll"] for run in found[name]]
    print(f"{name}: {median(name, 'seconds'):.1f} s, {median(name, 'bytes') / 1e9:.2f} GB, NLL {statistics.mean(nlls):.3f} "
          f"({min(nlls):.3f} to {max(nlls):.3f})")
best = min(("TRL, padded", "TRL, without padding"), key=lambda name: median(name, "seconds"))
print(f"ours / {best}: time {median('ours', 'seconds') / median(best, 'seconds'):.2f}, memory {median('ours', 'bytes') / median(best, 'bytes'):.2f}")
