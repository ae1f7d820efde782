"""The stack that a user would pick for text: PyTorch + TRL's SFTTrainer + PEFT, on the same rows.

    python -m venv venv && venv/bin/pip install torch transformers peft trl gguf
    venv/bin/python bench/text_reference.py --model models/smollm2-135m-instruct --data texts --steps 100

`--data` is a folder with train.jsonl and test.jsonl of `prompt` and `completion`. LoRA of rank 8, alpha
16, dropout 0.1 on q_proj and v_proj, AdamW without weight decay, a linear schedule, float32, no gradient
checkpointing, the loss on completions and the end token; `--padding-free` packs a batch without padding
(TRL's collator with positions), the default pads it. Prints JSON: seconds of training without the
start, peak memory, and NLL per token on test. `ivon-lora train --optimizer adamw --task completion`
with the same settings is the other side.
"""
import argparse, glob, json, os, resource, tempfile, time
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


def rows(path, limit):
    with open(path, encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines if line.strip()][:limit]
    answer = lambda row: row["completion"] if "completion" in row else row["references"][0]
    return [{"prompt": row["prompt"], "completion": answer(row)} for row in found]


class Clock(TrainerCallback):
    """Seconds of the steps after the first."""

    def on_step_end(self, args, state, control, **_):
        self.steps = getattr(self, "steps", []) + [time.perf_counter()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--train-limit", type=int)
    parser.add_argument("--eval-limit", type=int)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--padding-free", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    blocks = glob.glob(os.path.join(given.model, "*.gguf"))
    file = {"gguf_file": os.path.basename(blocks[0])} if blocks else {}
    tokenizer = AutoTokenizer.from_pretrained(given.model, **file)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32, **file)
    # Weights read from GGUF blocks are float32 by now; the marks of the file would forbid training.
    for mark in ("is_quantized", "hf_quantizer", "quantization_method"):
        model.__dict__.pop(mark, None)
    model.config.__dict__.pop("quantization_config", None)
    train = Dataset.from_list(rows(os.path.join(given.data, "train.jsonl"), given.train_limit))
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        settings = SFTConfig(
            output_dir=out, max_steps=given.steps, per_device_train_batch_size=given.batch,
            per_device_eval_batch_size=given.batch, learning_rate=given.lr, lr_scheduler_type="linear",
            weight_decay=0.0, seed=given.seed, use_cpu=True, bf16=False, fp16=False,
            gradient_checkpointing=False, completion_only_loss=True, max_length=None if given.padding_free else 320, report_to=[],
            save_strategy="no", logging_strategy="no", disable_tqdm=True, max_grad_norm=0.0,
            padding_free=given.padding_free,
        )
        lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.1,
                          target_modules=["q_proj", "v_proj"])
        trainer = SFTTrainer(model=model, args=settings, train_dataset=train, peft_config=lora,
                             processing_class=tokenizer, callbacks=[clock])
        trainer.train()
    steps = sorted(b - a for a, b in zip(clock.steps, clock.steps[1:]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    nll, count = test_nll(trainer.model.eval(), tokenizer, given)
    print(json.dumps({
        "median_step_seconds": steps[len(steps) // 2], "training_seconds": clock.steps[-1] - clock.steps[0],
        "peak_bytes_of_training": peak, "test_nll": nll, "test_tokens": count,
    }))


@torch.inference_mode()
def test_nll(model, tokenizer, given):
    """Mean negative log-likelihood of the completions' tokens and the end token, nats."""
    loss, count = 0.0, 0
    for row in rows(os.path.join(given.data, "test.jsonl"), given.eval_limit):
        prompt = tokenizer(row["prompt"])["input_ids"]
        ids = tokenizer(row["prompt"] + row["completion"])["input_ids"] + [tokenizer.eos_token_id]
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
        targets = torch.tensor(ids[1:])
        own = logits[torch.arange(len(targets)), targets][len(prompt) - 1:]
        loss, count = loss - own.sum().item(), count + len(own)
    return loss / count, count


if __name__ == "__main__":
    main()
