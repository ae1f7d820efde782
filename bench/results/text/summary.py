"""The written answers of bench/results/text.toml as tables: `summary.py runs/text`. Means over seeds of the scores in
runs/text/written/*/*/*/evaluation.json, with the standard error where there are several seeds."""
import collections, glob, json, os, statistics, sys

SCORES = ("exact_match", "rouge_l", "chrf")


def shown(values):
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {statistics.stdev(values) / len(values) ** 0.5:.3f}"


def value(score):
    return score["value"] if isinstance(score, dict) else score


found = collections.defaultdict(list)
for path in sorted(glob.glob(os.path.join(sys.argv[1], "written/*/*/*/evaluation.json"))):
    task, method = path.split(os.sep)[-4:-2]
    with open(path, encoding="utf-8") as file:
        found[task, method].append(json.load(file)["answers"])
for (task, method), reports in sorted(found.items()):
    print(f"\n{task}, {method}, {len(reports)} seeds, {reports[0]['prompts']} prompts, right {[r['right'] for r in reports]}\n")
    print("| answer | exact match | ROUGE-L | chrF2 |\n|---|---|---|---|")
    for place, chosen in enumerate(reports[0]["chosen"]):
        scores = [[value(r["chosen"][place]["scores"][score]) for r in reports] for score in SCORES]
        print("|", chosen["name"], "|", " | ".join(map(shown, scores)), "|")
    print("\n| uncertainty | AUROC | PRR | PRR to 0.5 | AURC | ECE |\n|---|---|---|---|---|---|")
    names = {u["name"]: None for r in reports for u in r["uncertainties"]}
    for name in names:
        all_of = [u for r in reports for u in r["uncertainties"] if u["name"] == name]
        columns = [[value(u[key]) if u.get(key) is not None else None for u in all_of] for key in ("auroc", "prr", "prr_half", "aurc", "ece")]
        print("|", name, "|", " | ".join(map(shown, columns)), "|")
