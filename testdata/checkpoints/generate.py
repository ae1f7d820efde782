"""What transformers makes of checkpoints whose files disagree, and of settings that stand twice: expected.json.

    python testdata/checkpoints/generate.py          # torch, transformers; writes expected.json beside itself

Every case is a golden tiny model (testdata/golden/tiny/FAMILY) with changes that the test in Rust makes as well, so that no
weights need to be stored. `without_effect` is checked here: a key that moves a logit ends the script.
"""
import copy, json, os, re, shutil, tempfile
import torch, transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "..", "golden", "tiny")
TOKENS = [5, 17, 3, 60, 41, 8, 22, 9]
EVERY = 6  # of the 96 logits, each sixth is kept
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"

# name, family, keys that are set in config.json (null is a value), keys that are removed, changes of the tensors and files
CHECKPOINTS = [
    ("plain", "llama", {}, [], []),
    ("tied, another head", "llama", {"tie_word_embeddings": True}, [], []),
    ("tied, the same head", "llama", {"tie_word_embeddings": True}, [], [["copy", EMBED, HEAD]]),
    ("tied, no head", "llama", {"tie_word_embeddings": True}, [], [["drop", HEAD]]),
    ("tied, the head alone", "llama", {"tie_word_embeddings": True}, [], [["drop", EMBED]]),
    ("not tied, the same head", "llama", {"tie_word_embeddings": False}, [], [["copy", EMBED, HEAD]]),
    ("tie not said, another head", "llama", {}, ["tie_word_embeddings"], []),
    ("tied qwen2, another head", "qwen2", {}, [], [["negate", EMBED, HEAD]]),
    ("names without model.", "qwen3", {"tie_word_embeddings": True}, [], [["drop", HEAD], ["prefix", "model.", ""]]),
    ("names with model. twice", "llama", {}, [], [["prefix", "", "model."]]),
    ("a buffer of integers", "llama", {}, [], [["integers", "model.position_ids", 16]]),
    ("frequencies of an older file", "llama", {}, [], [["copy", "model.norm.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"]]),
    ("biases that a llama does not have", "llama", {}, [], [["copy", "model.norm.weight", "model.layers.0.self_attn.q_proj.bias"]]),
    ("more layers than the configuration says", "llama", {"num_hidden_layers": 2}, [], []),
    ("a classifier with tied tables", "llama", {"tie_word_embeddings": True, "architectures": ["LlamaForSequenceClassification"]}, [],
     [["drop", HEAD], ["copy", "model.norm.weight", "score.weight"]]),
    ("an index beside one file", "llama", {}, [], [["index", "gone.safetensors"]]),
    ("an index with its old files beside one file", "llama", {}, [], [["old", "old.safetensors"], ["index", "old.safetensors"]]),
    ("an index alone", "llama", {}, [], [["file", "a.safetensors"], ["index", "a.safetensors"]]),
    ("a file named by the configuration", "llama", {"transformers_weights": "b.safetensors"}, [],
     [["file", "b.safetensors"], ["old", "model.safetensors"]]),
    ("both rotary settings", "llama", {"rope_scaling": {"type": "linear", "factor": 2.0},
                                       "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}, [], []),
    ("rotary base twice", "llama", {"rope_theta": 1e6, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, [], []),
    ("rotary base beside", "llama", {"rope_theta": 1e6, "rope_parameters": {"rope_type": "linear", "factor": 4.0}}, [], []),
    ("rotary kind twice", "llama", {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 8.0}}, ["rope_parameters"], []),
    ("an empty rope_scaling", "llama", {"rope_scaling": {}, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, [], []),
    ("original length twice", "llama3-rope", {"original_max_position_embeddings": 64}, [], []),
    ("an unknown key", "llama", {"final_logit_softcapping": 1.0}, [], []),
    ("biases that mistral has not", "mistral", {"attention_bias": True, "mlp_bias": True}, [], []),
    ("a window on all layers", "mistral", {"sliding_window": 3}, [], []),
    ("a window on all layers by their types", "qwen2", {"sliding_window": 3, "use_sliding_window": True, "layer_types": ["sliding_attention"] * 3}, [], []),
    ("a window on the last layer", "qwen2", {"sliding_window": 3, "use_sliding_window": True, "max_window_layers": 2}, ["layer_types"], []),
    ("a window on the first layer", "qwen3",
     {"sliding_window": 3, "use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention", "full_attention"]}, [], []),
    ("a window between two layers without", "qwen3",
     {"sliding_window": 2, "use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention", "full_attention"]}, [], []),
]

# family, keys that are set, keys that are removed: what the configuration class makes of them
CONFIGS = [
    (family, changes, removed)
    for family in ["llama", "mistral", "qwen2", "qwen3"]
    for changes, removed in [
        ({}, []),
        ({"num_key_value_heads": None}, []),
        ({}, ["num_key_value_heads"]),
        ({"head_dim": None}, []),
        ({}, ["head_dim"]),
        ({}, ["rms_norm_eps"]),
        ({}, ["max_position_embeddings"]),
        ({}, ["tie_word_embeddings"]),
        ({}, ["rope_parameters"]),
        ({"rope_parameters": None}, []),
        ({"rope_scaling": None}, []),
        ({"rope_theta": 5e5}, ["rope_parameters"]),
        ({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}, ["rope_parameters"]),
        ({"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}, []),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}}, []),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                           "original_max_position_embeddings": 32}, "original_max_position_embeddings": 64}, []),
        ({"sliding_window": 16}, []),
        ({"sliding_window": None}, []),
        ({}, ["sliding_window"]),
        ({"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 0}, ["layer_types"]),
        ({"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 3}, ["layer_types"]),
        ({"sliding_window": 16, "use_sliding_window": True, "layer_types": None, "max_window_layers": 0}, []),
        ({"layer_types": ["attention"] * 3}, []),
    ]
    if not (family == "qwen3" and changes == {"head_dim": None})  # a null that the class of transformers refuses
    and not (family == "mistral" and changes == {"num_key_value_heads": None})
    and not (family == "qwen2" and changes == {"head_dim": None})
]

# Keys that change no logit, with a value that is as unlike the default as the class takes.
WITHOUT_EFFECT = {
    "_attn_implementation_autoset": True, "_commit_hash": "abc", "_flash_attn_2_enabled": True, "_name_or_path": "x", "add_cross_attention": True,
    "attention_dropout": 0.5, "attn_implementation": "eager", "bad_words_ids": [[1]], "begin_suppress_tokens": [1], "bos_token_id": 7,
    "chunk_size_feed_forward": 2, "cross_attention_hidden_size": 8, "decoder_start_token_id": 3, "diversity_penalty": 0.5, "do_sample": True,
    "dtype": "float32", "early_stopping": True, "encoder_no_repeat_ngram_size": 2, "eos_token_id": [4, 5], "exponential_decay_length_penalty": [1, 2.0],
    "finetuning_task": "x", "forced_bos_token_id": 3, "forced_eos_token_id": 3, "gradient_checkpointing": True, "id2label": {"0": "a", "1": "b", "2": "c"},
    "initializer_range": 0.9, "is_decoder": True, "is_encoder_decoder": True, "is_llama_config": True, "label2id": {"a": 0}, "length_penalty": 2.0,
    "max_length": 3, "min_length": 2, "name_or_path": "x", "no_repeat_ngram_size": 2, "num_beam_groups": 2, "num_beams": 2, "num_labels": 5,
    "num_return_sequences": 2, "output_attentions": True, "output_hidden_states": True, "output_scores": True, "pad_token_id": 17, "prefix": "x",
    "pretraining_tp": 2, "problem_type": "regression", "pruned_heads": {"0": [1]}, "remove_invalid_values": True, "repetition_penalty": 2.0,
    "return_dict": True, "return_dict_in_generate": True, "rope_interleaved": True, "sep_token_id": 3, "suppress_tokens": [1],
    "task_specific_params": {"x": {"y": 1}}, "temperature": 0.3, "tf_legacy_loss": True, "tie_encoder_decoder": True, "tokenizer_class": "x", "top_k": 3,
    "top_p": 0.3, "torch_dtype": "float32", "torchscript": True, "transformers.js_config": {"dtype": "q4"}, "transformers_version": "4.0.0",
    "typical_p": 0.3, "unk_token_id": 4, "unsloth_fixed": True, "unsloth_version": "2025.1", "use_bfloat16": True, "use_cache": False,
}


def write(folder, family, changes, removed, steps):
    os.makedirs(folder)
    config = {**json.load(open(os.path.join(TINY, family, "config.json"))), **changes}
    for key in removed: config.pop(key, None)
    json.dump(config, open(os.path.join(folder, "config.json"), "w"))
    json.dump({}, open(os.path.join(folder, "generation_config.json"), "w"))
    tensors, file, index, old = load_file(os.path.join(TINY, family, "model.safetensors")), "model.safetensors", None, None
    for op, *args in steps:
        if op == "drop": tensors.pop(args[0], None)
        if op == "copy": tensors[args[1]] = tensors[args[0]].clone()
        if op == "negate": tensors[args[1]] = -tensors[args[0]]
        if op == "prefix": tensors = {args[1] + k.removeprefix(args[0]): v for k, v in tensors.items()}
        if op == "integers": tensors[args[0]] = torch.arange(args[1])
        if op == "file": file = args[0]
        if op == "old": old = args[0]
        if op == "index": index = args[0]
    save_file(tensors, os.path.join(folder, file), {"format": "pt"})
    if old: save_file({k: -v for k, v in tensors.items()}, os.path.join(folder, old), {"format": "pt"})
    if index: json.dump({"metadata": {}, "weight_map": {k: index for k in tensors}}, open(os.path.join(folder, "model.safetensors.index.json"), "w"))


def logits(folder):
    model = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    with torch.no_grad(): out = model(torch.tensor([TOKENS]))
    return (out if torch.is_tensor(out) else out[0])[0, -1].float()


def digits(values): return [float(f"{x:.6g}") for x in values.tolist()]


def resolved(config):
    config.standardize_rope_params()  # once more, as the model does before it computes with them
    rope = config.rope_parameters
    kind = rope["rope_type"]
    scaling = {"rope_type": kind}
    if kind != "default": scaling["factor"] = rope["factor"]
    if kind == "llama3":
        for key in ["low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]: scaling[key] = rope[key]
    types = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if config.model_type == "llama" or (config.model_type.startswith("qwen") and "sliding_attention" not in types): window = None
    return dict(num_key_value_heads=config.num_key_value_heads, head_dim=getattr(config, "head_dim", config.hidden_size // config.num_attention_heads),
                max_position_embeddings=config.max_position_embeddings, rms_norm_eps=config.rms_norm_eps, rope_theta=rope["rope_theta"],
                rope_scaling=scaling, sliding_window=window, tie_word_embeddings=config.tie_word_embeddings)


def main():
    with tempfile.TemporaryDirectory() as root:
        checkpoints = []
        for number, (name, family, changes, removed, steps) in enumerate(CHECKPOINTS):
            folder = os.path.join(root, str(number))
            write(folder, family, changes, removed, steps)
            checkpoints.append(dict(name=name, family=family, set=changes, removed=removed, steps=steps, logits=digits(logits(folder)[::EVERY])))
        configs = []
        for number, (family, changes, removed) in enumerate(CONFIGS):
            folder = os.path.join(root, f"config-{number}")
            write(folder, family, changes, removed, [])
            configs.append(dict(family=family, set=changes, removed=removed, resolved=resolved(AutoConfig.from_pretrained(folder))))
        for family in ["llama", "mistral", "qwen2", "qwen3"]:
            plain = logits(os.path.join(TINY, family))
            for number, (key, value) in enumerate(WITHOUT_EFFECT.items()):
                folder = os.path.join(root, f"{family}-{number}")
                write(folder, family, {key: copy.deepcopy(value)}, [], [])
                apart = (logits(folder) - plain).abs().max().item()
                assert apart < 1e-5, f"{family}: `{key}` moves a logit by {apart}"
                shutil.rmtree(folder)
    what = f"transformers {transformers.__version__}, torch {torch.__version__}: logits at the last of `tokens`, each sixth; configurations as their class reads them; keys that move no logit"
    text = json.dumps(dict(what=what, tokens=TOKENS, every=EVERY, checkpoints=checkpoints, configs=configs, without_effect=WITHOUT_EFFECT), indent=1)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s+", " ", found.group()), text)
    open(os.path.join(HERE, "expected.json"), "w").write(text + "\n")


main()
