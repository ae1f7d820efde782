#!/usr/bin/env python3
"""Writes families.json: what transformers renders for the chat templates in families/, each with several conversations.

    python families.py     (with transformers and jinja2 installed)

The templates were written for this project, in the shapes that the templates of these model families have: where the system message
goes, what the roles are called, what becomes of thoughts, tools and parts, and which of Jinja's tags, filters and methods are used.
A conversation is put in front of a template as `set` tags, because this program itself renders only one message of the user.
"""
import datetime
import json
from pathlib import Path

import jinja2
import transformers
from transformers.utils import chat_template_utils

PROMPT = ' Is "it\'s <b>cold</b>" & wet? \n'
TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>"}
SYSTEM = {"role": "system", "content": "Be brief.  /no_think\n"}
USER = {"role": "user", "content": PROMPT}
THINKING = {"role": "assistant", "content": "<think>\nWet things\nare cold.\n</think>\n\nYes, \u00e9t\u00e9.\n"}
CHANNEL = {"role": "assistant", "content": "<|channel>thought\nWet.<channel|> Yes "}
REASONED = {"role": "assistant", "content": "Yes.", "reasoning_content": "\nIs it? It is.\n"}
CALL = {"type": "function", "id": "call12345", "function": {"name": "weather", "arguments": {"town": "Z\u00fcrich", "days": [1, 2], "exact": True, "note": None}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells the \"weather\"", "parameters": {"type": "object", "properties": {"town": {"type": "string", "enum": ["Z\u00fcrich", "Bern"]}, "days": {"type": "array"}}, "required": ["town"]}}}
PARTS = [{"type": "text", "text": " Is it cold? "}, {"type": "image"}]

CONVERSATIONS = {
    "one message": {},
    "no answer next": {"add_generation_prompt": False},
    "system first": {"messages": [SYSTEM, USER]},
    "system later": {"messages": [USER, REASONED, SYSTEM, USER]},
    "turns with thoughts": {"messages": [SYSTEM, USER, THINKING, USER, CHANNEL, USER]},
    "thoughts apart": {"messages": [USER, REASONED, USER, REASONED], "add_generation_prompt": False},
    "thinking": {"enable_thinking": True},
    "no thinking": {"enable_thinking": False, "messages": [USER, THINKING, USER]},
    "tools": {"tools": [TOOL, TOOL]},
    "a call": {"tools": [TOOL], "messages": [SYSTEM, USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "12 \u00b0C"}, {"role": "assistant", "content": "Cold."}, USER]},
    "two calls": {"messages": [USER, {"role": "assistant", "content": "I look.", "tool_calls": [CALL, CALL]}, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]},
    "parts": {"messages": [{"role": "system", "content": PARTS[:1]}, {"role": "user", "content": PARTS}]},
    "documents": {"documents": [{"title": "A", "text": "Water is wet."}, {"title": "B", "text": "Ice, too."}]},
    "no messages": {"messages": []},
}  # fmt: skip


def literal(value):
    """A value as Jinja reads it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
    return "none" if value is None else str(value).lower()


def prelude(values):
    return "".join("{%- set " + name + " = " + literal(value) + " -%}" for name, value in values.items())


class FixedDate(datetime.datetime):
    """The date that this program takes for today."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 12)


def main():
    chat_template_utils.datetime = FixedDate
    rendered = {}
    for path in sorted(Path(__file__).with_name("families").glob("*.jinja")):
        rendered[path.stem] = {}
        for name, values in CONVERSATIONS.items():
            try:
                text = chat_template_utils.render_jinja_template(
                    conversations=[[USER]], chat_template=prelude(values) + path.read_text(), add_generation_prompt=True, **TOKENS
                )[0][0]
                rendered[path.stem][name] = {"rendered": text}
            except (jinja2.TemplateError, TypeError, ValueError, IndexError) as error:
                rendered[path.stem][name] = {"error": f"{type(error).__name__}: {error}"}
    made_with = {"transformers": transformers.__version__, "jinja2": jinja2.__version__}
    preludes = {name: prelude(values) for name, values in CONVERSATIONS.items()}
    table = {"made_with": made_with, "prompt": PROMPT, "tokens": TOKENS, "preludes": preludes, "families": rendered}
    Path(__file__).with_name("families.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
