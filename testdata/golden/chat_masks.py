#!/usr/bin/env python3
"""Writes chat_masks.json: which tokens of a conversation transformers counts as the assistant's.

    python chat_masks.py     (with transformers, tokenizers and jinja2 installed)

`apply_chat_template(…, return_assistant_tokens_mask=True)` marks the tokens inside `{% generation %}`. It is run here with two small
tokenizers trained on the conversations themselves, one of bytes (as GPT-2's) and one of pieces with a sign for the space before a word (as
Llama's), whose tokens begin and end at other places than the marks; and with the template of testdata/templates/families/smollm3.jinja,
one of this file whose marks stand inside a turn, and one with marks in the middle of a line.
"""
import datetime
import json
from pathlib import Path

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]

INSIDE = """{{- bos_token -}}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
{{ '<|im_start|>assistant\\n' }}{% generation %}{{ message['content'] }}<|im_end|>
        {% endgeneration %}
    {%- else %}
{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
# The marks are between letters, so that a token may spell bytes on both sides.
LINE = (
    "{% for message in messages %}{% if message.role == 'assistant' %}A:{% generation %} {{ message.content | trim }}{% endgeneration %}"
    "\\n{% else %}{{ message.role }}:{{ message.content }}\\n{% endif %}{% endfor %}"
).replace("\\n", "\n")

SYSTEM = {"role": "system", "content": "Answer in one word. /no_think"}
CONVERSATIONS = [
    [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "Paris."}],
    [SYSTEM, {"role": "user", "content": "2 + 2?\nThink first."}, {"role": "assistant", "content": "Four"},
     {"role": "user", "content": "And 3 + 3?"}, {"role": "assistant", "content": " Six "}],
    [{"role": "user", "content": "Gr\u00fc\u00dfe \u6771\u4eac \U0001f642 <|im_end|> {{ x }}"}, {"role": "assistant", "content": "Danke!\n\n- one\n- zw\u00f6lf \U0001f642"}],
    [{"role": "assistant", "content": "\u00c9t\u00e9?"}, {"role": "user", "content": ""}, {"role": "assistant", "content": ""}, {"role": "user", "content": "bye"}],
]


class Day(datetime.datetime):
    """The day on which every template is rendered here, as in the library."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


def texts():
    for conversation in CONVERSATIONS:
        for message in conversation:
            yield message["role"] + "\n" + message["content"]


def bytes_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def pieces_tokenizer():
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    fallback = [AddedToken(f"<0x{byte:02X}>", special=False, normalized=False) for byte in range(256)]
    letters = [text for text in texts() if text.isascii()]
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=SPECIAL + [token.content for token in fallback], show_progress=False)
    tokenizer.train_from_iterator(letters, trainer)
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = [token for token in saved["added_tokens"] if token["content"] in SPECIAL]
    return Tokenizer.from_str(json.dumps(saved))


def main():
    chat_template_utils.datetime = Day
    templates = {"inside": INSIDE, "line": LINE, "smollm3": (HERE / "../templates/families/smollm3.jinja").read_text()}
    cases = []
    tokenizers = {"bytes": bytes_tokenizer(), "pieces": pieces_tokenizer()}
    for name, tokenizer in tokenizers.items():
        wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
        for template, source in templates.items():
            for number, messages in enumerate(CONVERSATIONS):
                options = dict(chat_template=source)
                text = wrapped.apply_chat_template(messages, tokenize=False, **options)
                found = wrapped.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **options)
                cases.append({"tokenizer": name, "template": template, "conversation": number, "text": text,
                              "ids": found["input_ids"], "mask": found["assistant_masks"]})
    saved = {
        "what": "the assistant's tokens of conversations, by transformers' apply_chat_template with return_assistant_tokens_mask",
        "made_with": {"transformers": transformers.__version__},
        "tokenizers": {name: json.loads(tokenizer.to_str()) for name, tokenizer in tokenizers.items()},
        "templates": templates,
        "conversations": CONVERSATIONS,
        "cases": cases,
    }
    (HERE / "chat_masks.json").write_text(json.dumps(saved, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
