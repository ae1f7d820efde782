#!/usr/bin/env python3
"""Writes folders.json: what transformers makes of tokenizer folders whose files name special tokens and chat templates.

    python generate.py     (with transformers installed)

Every case is a folder with the tokenizer.json below and the files it names. Noted are the ids of a text without and with
special tokens, the named special tokens, and a chat with its ids as `apply_chat_template` gives them.
"""
import json
import tempfile
from pathlib import Path

import transformers
from transformers import PreTrainedTokenizerFast

TEXT = "hello <|user|> a<|user|>b <pad> FOO foo </s> <img> food b"
MESSAGES = [{"role": "user", "content": "hello a"}]
WORDS = ["<unk>", "<s>", "</s>", "a", "b", "hello", "foo", "user", "food", "img"]


def tokenizer(bos=False, added=()):
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [token(1, "<s>", special=True)] + list(added),
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": template if bos else None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "<unk>"},
    }


def token(id=None, content="", **flags):
    whole = dict(content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    return {**({} if id is None else {"id": id}), **whole, **flags}


def decoder(**tokens):
    return {"added_tokens_decoder": {key.removeprefix("id"): value for key, value in tokens.items()}}


def config(**settings):
    return {"tokenizer_config.json": settings}


USER, PAD = token(content="<|user|>", special=True), token(content="<pad>", special=True)
CHAT = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
BARE = "{% for m in messages %}{{ m.content }}{% endfor %}"

# A name, the tokenizer.json, the other files.
CASES = [
    ("nothing but tokenizer.json", tokenizer(), {}),
    ("tokens of added_tokens_decoder", tokenizer(), config(**decoder(id10=USER, id11=PAD), pad_token="<pad>")),
    ("the ids of added_tokens_decoder only order", tokenizer(), config(**decoder(id4000000000=USER, id77=PAD))),
    ("lstrip and rstrip", tokenizer(), config(**decoder(id10={**USER, "lstrip": True, "rstrip": True}))),
    ("single_word", tokenizer(), config(**decoder(id10=token(content="foo", single_word=True, special=True)))),
    ("normalized", tokenizer(), config(**decoder(id10=token(content="FOO", normalized=True)))),
    ("not normalized", tokenizer(), config(**decoder(id10=token(content="FOO")))),
    ("flags left away", tokenizer(), config(**decoder(id10={"content": "FOO"}, id11={"content": "<img>", "special": True}))),
    ("other flags for a token that is there", tokenizer(added=[token(10, "<|user|>", special=True)]),
     config(**decoder(id10={**USER, "lstrip": True}))),
    ("a token of the vocabulary", tokenizer(), config(eos_token="</s>")),
    ("named tokens that are new", tokenizer(), config(bos_token="<s>", pad_token="<pad>", unk_token="<unk>", cls_token="<img>")),
    ("a token as an object", tokenizer(), config(bos_token={"__type": "AddedToken", **token(content="<|user|>", lstrip=True)})),
    ("null for a token", tokenizer(), config(bos_token=None, eos_token="</s>")),
    ("additional_special_tokens", tokenizer(), config(additional_special_tokens=["<|user|>", "<img>"])),
    ("extra_special_tokens", tokenizer(), config(extra_special_tokens=["<img>", "<|user|>"])),
    ("both of them", tokenizer(), config(extra_special_tokens=["<img>"], additional_special_tokens=["<|user|>"])),
    ("an empty one of them", tokenizer(), config(extra_special_tokens=[], additional_special_tokens=["<|user|>"])),
    ("extra_special_tokens by name", tokenizer(), config(extra_special_tokens={"image_token": "<img>"}, eos_token="</s>")),
    ("a token of this model alone", tokenizer(), config(image_token="<img>", bos_token="<s>", add_bos_token=True)),
    ("special_tokens_map.json overrides", tokenizer(),
     {**config(bos_token="<s>", eos_token="<|user|>"), "special_tokens_map.json": {"eos_token": "</s>", "pad_token": token(content="<pad>")}}),
    ("special_tokens_map.json with null", tokenizer(),
     {**config(bos_token="<s>", eos_token="</s>"), "special_tokens_map.json": {"eos_token": None}}),
    ("special_tokens_map.json with additional tokens", tokenizer(),
     {"special_tokens_map.json": {"bos_token": "<s>", "additional_special_tokens": ["<|user|>", "<img>"]}}),
    ("special_tokens_map.json with extra tokens", tokenizer(),
     {**config(extra_special_tokens=["<img>"]), "special_tokens_map.json": {"extra_special_tokens": ["<|user|>"]}}),
    ("special_tokens_map.json beside added_tokens_decoder", tokenizer(),
     {**config(**decoder(id10=USER), eos_token="</s>"), "special_tokens_map.json": {"eos_token": "<img>", "pad_token": "<pad>"}}),
    ("added_tokens.json", tokenizer(), {"added_tokens.json": {"<|user|>": 11, "FOO": 10}, **config(eos_token="</s>")}),
    ("added_tokens.json with a special one", tokenizer(), {"added_tokens.json": {"<pad>": 10, "FOO": 11}, **config(pad_token="<pad>")}),
    ("added_tokens.json at an id that is taken", tokenizer(), {"added_tokens.json": {"FOO": 1, "<img>": 10}}),
    ("added_tokens.json beside added_tokens_decoder", tokenizer(), {"added_tokens.json": {"FOO": 10}, **config(**decoder(id10=USER))}),
    ("add_bos_token without a post-processor", tokenizer(), config(bos_token="<s>", add_bos_token=True, add_eos_token=True, eos_token="</s>")),
    ("add_bos_token false with one", tokenizer(bos=True), config(bos_token="<s>", add_bos_token=False)),
    ("a post-processor", tokenizer(bos=True), config(bos_token="<s>", eos_token="</s>", add_eos_token=True)),
    ("a chat template with its begin token", tokenizer(bos=True), config(bos_token="<s>", chat_template=CHAT)),
    ("a chat template without one", tokenizer(bos=True), config(bos_token="<s>", chat_template=BARE)),
    ("a chat template with two", tokenizer(bos=True), config(bos_token="<s>", chat_template="{{ bos_token }}" + CHAT)),
    ("a chat template whose begin token is not named", tokenizer(), config(chat_template=CHAT + "{{ pad_token is defined }}")),
    ("named templates", tokenizer(), config(chat_template=[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "hello"}])),
    ("named templates without a default", tokenizer(), config(chat_template=[{"name": "tool_use", "template": "t"}, {"name": "rag", "template": "r"}])),
    ("named templates in an object", tokenizer(), config(chat_template={"default": "hello", "x": "a"})),
    ("chat_template.jinja", tokenizer(), {**config(chat_template="b"), "chat_template.jinja": "hello\r\n a\n"}),
    ("chat_template.jinja and others", tokenizer(), {"chat_template.jinja": "hello", "additional_chat_templates/rag.jinja": "b"}),
    ("others beside that of the config", tokenizer(), {**config(chat_template="b"), "additional_chat_templates/rag.jinja": "b"}),
    ("a default among the others", tokenizer(), {**config(chat_template="b"), "additional_chat_templates/default.jinja": "hello"}),
    ("chat_template.json", tokenizer(), {"chat_template.json": {"chat_template": "hello"}}),
    ("chat_template.json beside that of the config", tokenizer(), {**config(chat_template="b"), "chat_template.json": {"chat_template": "hello"}}),
    ("tokens in a template", tokenizer(), config(image_token="<img>", pad_token="<pad>", extra_special_tokens=["<|user|>"],
     chat_template="{{ image_token }}{{ pad_token }}{{ eos_token is defined }}{{ extra_special_tokens is defined }}")),
]


def main():
    cases = []
    for name, tokenizer_json, files in CASES:
        files = {file: text if isinstance(text, str) else json.dumps(text) for file, text in files.items()}
        case = {"name": name, "tokenizer": json.dumps(tokenizer_json), "files": files}
        with tempfile.TemporaryDirectory() as folder:
            for file, text in {"tokenizer.json": case["tokenizer"], **files}.items():
                path = Path(folder) / file
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(text.encode())
            theirs = PreTrainedTokenizerFast.from_pretrained(folder)
        case["ids"] = theirs(TEXT, add_special_tokens=False)["input_ids"]
        case["framed"] = theirs(TEXT)["input_ids"]
        case["special_tokens"] = theirs.special_tokens_map
        try:
            case["chat"] = theirs.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
            case["chat_ids"] = list(theirs.apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"])
        except ValueError as error:
            case["chat_error"] = str(error).split("!")[0]
        cases.append(case)
    table = {"made_with": {"transformers": transformers.__version__}, "text": TEXT, "prompt": MESSAGES[0]["content"], "cases": cases}
    Path(__file__).with_name("folders.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
