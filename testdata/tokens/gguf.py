#!/usr/bin/env python3
"""Writes gguf.json: small vocabularies as GGUF files store them, and the ids that Python's tokenizers make of awkward texts.

    python gguf.py     (with transformers and sentencepiece installed)

`byte_level` is one vocabulary for every pre-tokenizer: its merges were trained without any split, so that they cross the places
where each pre-tokenizer splits, and some of its tokens have lost their merges, so that it matters whether those are ignored. The
ids are those of transformers' own tokenizer classes and converters where it has one with this split, else of the `tokenizers`
package put together as in the tokenizer.json of the checkpoints that are named.

The tokenizer.json of each is kept beside, without its vocabulary, for the reader of Hugging Face folders.

`sentencepiece` are vocabularies trained by the sentencepiece package, laid out as llama.cpp's converter does; the ids are those of
transformers' tokenizer for such a file (`gguf_file=`), and of the sentencepiece package where the text holds no added token.
"""
import json
import tempfile
from pathlib import Path

import sentencepiece
import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE, Unigram
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.integrations.gguf import gguf_tokenizer_mapping as gguf
from transformers.models.gemma.tokenization_gemma import GemmaTokenizer
from transformers.models.gpt2.tokenization_gpt2 import GPT2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer
from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

TEXTS = [
    "", " ", "   ", "The red fox isn't here.", "I'VE told you: we'Ll go, it'S theirs, 'tis O'Re", "don't   stop  now", " leading", "trailing ",
    "3 33 333 3333 33333 1234567 3.14 1,000,000 x2y22", "½ ² Ⅷ ٣٤٥ १२३ 1२3", "HelloWorld iPhone XMLHttpRequest ÉCOLEs ǅemal", "a//b\n/c\n\n/d path/to/file http://x.y/z",
    "line one\nline two\n\n\nfour", "crlf\r\nnext\r\n\r\nlast\r", "\ttabs\t\tand\t spaces \t\n \n", "x \n  y\n\n   z  \n", "東京は日本の首都です。 我想在apple工作1314天～", "한국어 텍스트 ไทย ភាសា",
    "🙂 👍🏽 👩‍👩‍👧 🇩🇪 🚀🚀 ok", "Zürich naïve café", "Zu\u0308rich nai\u0308ve cafe\u0301", "हिन्दी में कार्य", "مُحَمَّد عربي", "ก็ดีที่สุด", "\u00a0no\u00a0break\u3000wide\u2003em\u200bzero\u2028sep\x85nel\ufeff",
    "------ ====== !!!??? ... '''\"\"\"``` #$%^&*()", "snake_case __init__ kebab-case a_b", "don\u2019t \u201cquote\u201d l\u2019été", "x=1;y=2 if(a<b){return c[0];}", "ſtrange '\u017f \u0130\u0131 ß ẞ", "\u0301alone a \u0301b 1\u0301 -\u0301",
    "The quick brown fox. " * 3, "a" * 40 + "B" * 20 + "!" * 30 + " " * 70 + "9" * 25,
]  # fmt: skip
WORDS = "The red blue small large fox stone river house runs sleeps under over near seven never isn't don't we'll I've it's 333 12 2024 = ( )".split()


def corpus():
    """Lines of words in a fixed mixture, and the texts themselves."""
    state, lines = 1, []
    for _ in range(400):
        line = []
        for _ in range(8):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            line.append(WORDS[(state >> 33) % len(WORDS)])
        lines.append(" ".join(line) + (".\n" if state >> 63 else "!\n\n"))
    return lines + TEXTS * 4


# ---- byte-level BPE -----------------------------------------------------------------------------
def byte_vocabulary():
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False, max_token_length=8)
    tokenizer.train_from_iterator(corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab = sorted(model["vocab"], key=model["vocab"].get)
    merges = [tuple(merge) for merge in model["merges"]]
    return vocab, [merge for i, merge in enumerate(merges) if i % 13 != 5]


def split_by(pattern, ignore_merges=False):
    def build(vocab, merges):
        tokenizer = Tokenizer(BPE(vocab, merges, ignore_merges=ignore_merges))
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        return tokenizer

    return build


def of_class(tokenizer_class):
    return lambda vocab, merges: tokenizer_class(vocab=vocab, merges=merges).backend_tokenizer


def digits(vocab, merges):
    """tokenizer.json of SmolLM 1 and 2, of Granite 3 and of StarCoder 2."""
    tokenizer = Tokenizer(BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    return tokenizer


def tiktoken_pattern():
    return TikTokenConverter().pattern


# The possessive spelling of GPT-4's split, which newer checkpoints have.
POSSESSIVE = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"""
PRE_TOKENIZERS = {
    "gpt-2": of_class(GPT2Tokenizer),
    "smollm": digits, "refact": digits, "starcoder": digits,
    "llama-bpe": split_by(tiktoken_pattern(), ignore_merges=True),
    "lfm2": split_by(tiktoken_pattern(), ignore_merges=True),
    "smaug-bpe": split_by(tiktoken_pattern(), ignore_merges=True),
    "dbrx": split_by(POSSESSIVE),
    "qwen2": of_class(Qwen2Tokenizer),
    "deepseek-r1-qwen": of_class(Qwen2Tokenizer),
    "qwen35": of_class(Qwen3_5Tokenizer),
    "tekken": split_by(gguf.GGUF_PRE_TOKENIZER_SPLITS["tekken"], ignore_merges=True),
    "gpt-4o": split_by(gguf.GGUF_PRE_TOKENIZER_SPLITS["gpt-4o"]),
}  # fmt: skip


def without_vocabulary(tokenizer):
    """tokenizer.json without its vocabulary and merges, which are stored once for all."""
    shape = json.loads(tokenizer.to_str())
    del shape["model"]["vocab"], shape["model"]["merges"]
    return shape


def byte_level():
    vocab, merges = byte_vocabulary()
    ids = {token: i for i, token in enumerate(vocab)}
    found, shapes = {}, {}
    for name, build in PRE_TOKENIZERS.items():
        tokenizer = build(ids, merges)
        shapes[name] = without_vocabulary(tokenizer)
        found[name] = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        assert not any(id >= len(vocab) for text in found[name] for id in text), name
    plain = split_by(tiktoken_pattern())(ids, merges)
    assert found["dbrx"] == [plain.encode(text).ids for text in TEXTS]
    kinds = ["gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "qwen35", "tekken", "gpt-4o"]
    assert all(found[one] != found[other] for one in kinds for other in kinds if one != other)
    return {"tokens": vocab, "merges": [" ".join(merge) for merge in merges], "texts": TEXTS, "ids": found, "shapes": shapes}


# ---- SentencePiece ------------------------------------------------------------------------------
def trained(model_type="bpe", **settings):
    with tempfile.TemporaryDirectory() as folder:
        lines = [line.strip("\n") for text in corpus() for line in text.split("\n")]
        Path(folder, "t.txt").write_text("\n".join(lines))
        sentencepiece.SentencePieceTrainer.train(
            input=f"{folder}/t.txt", model_prefix=f"{folder}/m", vocab_size=520, model_type=model_type, byte_fallback=True, character_coverage=0.98,
            normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2, hard_vocab_limit=False, **settings,
        )  # fmt: skip
        return sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")


def laid_out(model, user_defined=()):
    """tokens, scores and types as the converter writes them; it spells user-defined tokens with spaces, at a score of -1000."""
    tokens, scores, types = [], [], []
    for i in range(len(model)):
        piece, score = model.id_to_piece(i), model.get_score(i)
        kind = 2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1
        if piece in user_defined:
            piece, score, kind = piece.replace("\u2581", " "), -1000.0, 4
        tokens.append(piece), scores.append(score), types.append(kind)
    return {"tokens": tokens, "scores": scores, "types": types}


def of_transformers(architecture, model, vocabulary, **more):
    names = {"tokenizer_type": model, "tokens": vocabulary["tokens"], "scores": vocabulary["scores"], "token_type": vocabulary["types"], **more}
    return gguf.convert_gguf_tokenizer(architecture, names)[0]


def cases(tokenizer, texts):
    return [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in texts]


TURNS = [
    "<start_of_turn>user\nThe red fox<end_of_turn>\n<start_of_turn>model\n", "a<start_of_turn> b", "The\n\nfox\n\n\n\nruns \n\n", "<start_of_turn><end_of_turn>",
    "x  y   z    " + " " * 9 + "end",
]  # fmt: skip


def gemma_3():
    """Gemma 2 and 3: nothing in front, runs of spaces and line ends as user-defined tokens, and turns as control tokens."""
    runs = ["\u2581\u2581", "\u2581\u2581\u2581", "\u2581" * 4, "\n", "\n\n", "\n\n\n"]
    model = trained(add_dummy_prefix=False, user_defined_symbols=runs, control_symbols=["<start_of_turn>", "<end_of_turn>"])
    vocabulary = laid_out(model, runs)
    theirs = of_transformers("gemma3", "llama", vocabulary)
    found = cases(theirs, TEXTS + TURNS)
    plain = [case for case in found if "  " not in case["text"] and "_of_turn" not in case["text"]]
    assert all(case["ids"] == model.encode(case["text"]) for case in plain)
    return {"name": "gemma3", "architecture": "gemma3", "model": "llama", "add_space_prefix": False, **vocabulary, "cases": found}


def gemma_4():
    """Gemma 4: the same with its merges listed."""
    model = trained(add_dummy_prefix=False, control_symbols=["<|turn>", "<turn|>"])
    vocabulary = laid_out(model)
    ids = {token: i for i, token in enumerate(vocabulary["tokens"])}
    merges = gguf.generate_merges(ids, dict(zip(vocabulary["tokens"], vocabulary["scores"])))
    theirs = of_transformers("gemma4", "gemma4", vocabulary, merges=[" ".join(merge) for merge in merges])
    own = GemmaTokenizer(vocab=ids, merges=merges).backend_tokenizer
    turns = ["<|turn>user\nThe red fox<turn|>\n", "a <turn|> b"]
    found = cases(theirs, TEXTS + turns)
    assert all(case["ids"] == own.encode(case["text"], add_special_tokens=False).ids for case in found[: len(TEXTS)])
    assert all(case["ids"] == model.encode(case["text"]) for case in found[: len(TEXTS)])
    return {"name": "gemma4", "architecture": "gemma4", "model": "gemma4", **vocabulary, "merges": [" ".join(merge) for merge in merges], "cases": found, "shape": without_vocabulary(theirs)}


def phi_3():
    """Phi-3: a space in front of every text between tokens that take the spaces behind them."""
    model = trained(control_symbols=["<|user|>", "<|end|>", "<|endoftext|>"])
    vocabulary = laid_out(model)
    tokenizer = of_transformers("phi3", "llama", {**vocabulary, "types": [1] * len(model)})
    keep = ["<unk>", "<s>", "<|endoftext|>"]
    special = [token for token, kind in zip(vocabulary["tokens"], vocabulary["types"]) if kind in (2, 3)]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False, rstrip=token not in keep) for token in special])
    turns = ["<|user|>\nThe red fox<|end|>\n<|user|>  b", "a <|endoftext|>  b<s> c</s> d", "x <unk> y"]
    found = cases(tokenizer, TEXTS + turns)
    assert all(case["ids"] == model.encode(case["text"]) for case in found[: len(TEXTS)])
    return {"name": "phi3", "architecture": "phi3", "model": "llama", **vocabulary, "cases": found}


def unigram():
    """A unigram vocabulary as a tokenizer.json; no GGUF file of a decoder has one."""
    model = trained("unigram")
    vocabulary = [(model.id_to_piece(i), model.get_score(i)) for i in range(len(model))]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=model.unk_id(), byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    found = cases(tokenizer, TEXTS)
    assert all(case["ids"] == model.encode(case["text"]) for case in found)
    return {"tokenizer": json.loads(tokenizer.to_str()), "cases": found}


def main():
    made_with = {package.__name__: package.__version__ for package in (transformers, tokenizers, sentencepiece)}
    table = {"made_with": made_with, "byte_level": byte_level(), "sentencepiece": [gemma_3(), gemma_4(), phi_3()], "unigram": unigram()}
    Path(__file__).with_name("gguf.json").write_text(json.dumps(table, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
