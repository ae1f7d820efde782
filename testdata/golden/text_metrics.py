"""Scores of written answers against references, by the public packages.

    pip install sacrebleu rouge-score
    python testdata/golden/text_metrics.py

Writes text_metrics.json: for each answer and its references chrF2 of sacrebleu (times 1/100) and ROUGE-L of rouge-score
(the largest over the references), and chrF2 of the whole set.
"""
import importlib.metadata
import json
import pathlib

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

CASES = [
    ("The cat sat on the mat.", ["The cat sat on the mat."]),
    ("the cat sat", ["The cat sat on the mat.", "A cat was sitting there"]),
    ("A dog!", ["The cat sat on the mat."]),
    ("on the mat the cat sat", ["The cat sat on the mat."]),
    ("The Phoenix is a cheap French pub near the river, rated 3 out of 5.",
     ["The Phoenix serves cheap French food by the riverside; customers rate it 3 of 5.",
      "A cheap pub with French food, The Phoenix, is near the river and has a rating of 3 out of 5."]),
    ("", ["nothing"]),
    ("something", [""]),
    ("ab", ["a"]),
    ("a a a a b", ["a b a"]),
    ("Grüße aus München 🙂", ["Gruesse aus Muenchen", "Grüße aus   München 🙂🙂"]),
    ("東京は日本の首都です", ["日本の首都は東京です"]),
    ("card_arrival", ["card arrival"]),
    ("1,000.50 dollars", ["1000.50 dollars", "1,000 dollars"]),
]


def main():
    chrf, rouge = CHRF(), RougeScorer(["rougeL"])
    rows = []
    for answer, references in CASES:
        best = max(rouge.score(reference, answer)["rougeL"].fmeasure for reference in references)
        score = chrf.sentence_score(answer, references).score / 100
        rows.append(dict(answer=answer, references=references, chrf=score, rouge_l=best))
    most = max(len(references) for _, references in CASES)
    streams = [[references[i] if i < len(references) else None for _, references in CASES] for i in range(most)]
    corpus = chrf.corpus_score([answer for answer, _ in CASES], streams)
    versions = {name: importlib.metadata.version(name) for name in ["sacrebleu", "rouge-score"]}
    what = f"chrF2 (sacrebleu {versions['sacrebleu']}, {chrf.get_signature()}) and ROUGE-L (rouge-score {versions['rouge-score']}, no stemmer)"
    out = dict(what=what, cases=rows, corpus_chrf=corpus.score / 100)
    path = pathlib.Path(__file__).resolve().parent / "text_metrics.json"
    path.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
