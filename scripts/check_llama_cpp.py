"""Checks that llama.cpp computes the logits that we compute, from GGUF files that are written as its converter writes them.

    IVON_LORA_GGUF_OUT=FOLDER cargo test --workspace --lib -- gguf::tests::round_trip
    python scripts/check_llama_cpp.py FOLDER

The test writes the golden model of each family to FOLDER/NAME.gguf, and our logits after each of 120 tokens to
FOLDER/NAME.json. This loads the files with llama.cpp, in f32 and without flash attention, and prints the largest
difference of a logit as a part of the largest logit. Exits with 1 if one is above 1e-2. Needs llama-cpp-python.
"""
import ctypes, json, pathlib, sys
import llama_cpp
import numpy


def main():
    folder, quiet = pathlib.Path(sys.argv[1]), llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    failed = False
    for path in sorted(folder.glob("*.gguf")):
        expected = json.loads(path.with_suffix(".json").read_text())
        tokens = expected["tokens"]
        try:
            found = logits(path, tokens)
        except ValueError as error:
            print(f"{path.stem}: {error}")
            failed = True
            continue
        stated = numpy.array(expected["logits"]).reshape(len(tokens), -1)
        worst = abs(found - stated).max() / abs(stated).max()
        print(f"{path.stem}: {worst:.1e} of the largest logit")
        failed |= not worst <= 1e-2
    sys.exit(failed)


def logits(path, tokens):
    """The logits after every token, [tokens, vocabulary]."""
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise ValueError("llama.cpp does not load it")
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = 128, len(tokens), len(tokens)
    settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
    settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, settings)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for index, token in enumerate(tokens):
        batch.token[index], batch.pos[index], batch.logits[index] = token, index, True
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
    if not context or llama_cpp.llama_decode(context, batch):
        raise ValueError("llama.cpp does not compute it")
    width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    rows = [numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (width,)).copy() for i in range(len(tokens))]
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return numpy.array(rows, dtype=float)


if __name__ == "__main__":
    main()
