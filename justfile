# The commands of a day's work. Without `just`: each line below its name is plain shell.

# Everything that CI checks.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --features bench/criterion -- -D warnings
    cargo test --workspace
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The real model for tests and benchmarks, into models/ (ignored by git).
model:
    scripts/fetch-smollm2

# Both sides of the benchmark in turn; needs the Python of scripts/reference-environment.
bench *arguments:
    cargo run --release -p bench -- {{arguments}}

# The micro-benchmarks of the CPU's operations, against plain Burn.
micro *arguments:
    cargo bench -p bench --features criterion --bench operations -- {{arguments}}

# One static file, tried in an empty root folder.
static:
    scripts/static-binary

# Every GPU feature compiled, and the golden models on a GPU made of software.
devices:
    scripts/check-gpu-features

# Each fuzz target for a minute; `just fuzz gguf` one of them, `just fuzz --runs 10000000` until its count is reached.
fuzz *arguments:
    scripts/fuzz {{arguments}}

# The program broken off at every write and at random moments, and without disk, memory or files to open.
crash *arguments:
    cargo build -p ivon-lora-cli
    scripts/crash-test {{arguments}}
