"""The real `openai` client against `ivon-lora serve`, unchanged: chats, completions, streams, probabilities, errors.

    pip install openai
    ivon-lora serve --model models/smollm2-135m-instruct --adapter ADAPTER --port 8080
    python bench/serve_clients.py http://127.0.0.1:8080/v1

Prints what was checked; ends with an error at the first thing that is otherwise.
"""

import sys

from openai import BadRequestError, NotFoundError, OpenAI

client = OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
models = list(client.models.list())
writes = [model.id for model in models if model.does == "write"]
print("models:", [model.id for model in models])
model = "base"
assert model in writes

messages = [{"role": "user", "content": "Name a colour."}]
ask = dict(model=model, messages=messages, temperature=0, max_tokens=24, seed=1)
whole = client.chat.completions.create(**ask, logprobs=True, top_logprobs=3)
choice = whole.choices[0]
text = choice.message.content
assert choice.finish_reason in ("stop", "length") and whole.usage.completion_tokens == len(choice.logprobs.content)
for token in choice.logprobs.content:
    best = token.top_logprobs[0]
    assert token.logprob <= best.logprob + 1e-9 and len(token.top_logprobs) == 3
    assert bytes(token.bytes).decode(errors="replace") == token.token
print("chat:", repr(text))

pieces, usage, reasons = [], None, []
for chunk in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
    usage = chunk.usage or usage
    for piece in chunk.choices:
        pieces.append(piece.delta.content or "")
        reasons += [piece.finish_reason] if piece.finish_reason else []
assert "".join(pieces) == text and reasons == [choice.finish_reason], (pieces, text)
assert usage.completion_tokens == whole.usage.completion_tokens
print("stream: the same text in", len(pieces), "pieces")

several = client.chat.completions.create(model=model, messages=messages, n=3, temperature=1, max_tokens=8, seed=5)
again = client.chat.completions.create(model=model, messages=messages, n=3, temperature=1, max_tokens=8, seed=5)
texts = [choice.message.content for choice in several.choices]
assert texts == [choice.message.content for choice in again.choices] and len(set(texts)) > 1
print("three texts, the same twice:", texts)

parts = [{"role": "user", "content": [{"type": "text", "text": "Name a colour."}]}]
assert client.chat.completions.create(**{**ask, "messages": parts}).choices[0].message.content == text
stopped = client.completions.create(model=model, prompt=["One, two,", "The sky is"], max_tokens=12, temperature=0, stop=["."], logprobs=2)
assert len(stopped.choices) == 2 and all("." not in choice.text for choice in stopped.choices)
assert stopped.choices[0].logprobs.tokens and len(stopped.choices[0].logprobs.top_logprobs[0]) == 2
print("completions:", [choice.text for choice in stopped.choices])

for name in writes:
    answer = client.chat.completions.create(**{**ask, "model": name}, extra_body={"uncertainty": True})
    scores = answer.choices[0].uncertainty
    assert len(scores["token_scores"]) == answer.usage.completion_tokens
    print(f"uncertainty of {name}: {scores['per_token']['entropy']:.3f} nats per token, of it from weights {scores['per_token']['mutual_information']:.4f}")

try:
    client.chat.completions.create(**{**ask, "model": "gpt-4"})
    raise SystemExit("an unknown model was answered")
except NotFoundError as error:
    print("unknown model:", error.body["message"])
try:
    client.chat.completions.create(**ask, presence_penalty=1.0)
    raise SystemExit("an unknown field was passed over")
except BadRequestError as error:
    print("unknown field:", error.body["message"])
