# Everyday commands. Without `just`, the lines below each name are plain shell.

# Everything that CI checks.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --features bench/criterion -- -D warnings
    cargo test --workspace
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The real model for tests and benchmarks, into models/ (ignored by git).
model:
    scripts/fetch-smollm2

# Both sides of the benchmark, alternately; needs the Python of scripts/reference-environment.
bench *arguments:
    cargo run --release -p bench -- {{arguments}}

# The micro-benchmarks of the CPU's operations, against plain Burn.
micro *arguments:
    cargo bench -p bench --features criterion --bench operations -- {{arguments}}

# A single static file, tried in an empty root folder.
static:
    scripts/static-binary

# Compiles every GPU feature and runs the golden models on a software GPU.
devices:
    scripts/check-gpu-features

# Each fuzz target for a minute; `just fuzz gguf` for one of them, `just fuzz --runs 10000000` until that many executions.
fuzz *arguments:
    scripts/fuzz {{arguments}}

# The program interrupted at every write and at random moments, and short of disk, memory or file handles.
crash *arguments:
    cargo build -p ivon-lora-cli
    scripts/crash-test {{arguments}}
