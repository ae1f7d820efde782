//! The machine of a measurement: its description, the memory of the process, and the rate of its
//! matrix products.

use std::time::Instant;

use serde_json::{Value, json};

use crate::Failure;

/// Current resident memory of the process in bytes, from /proc; 0 where /proc is not available.
pub fn resident_bytes() -> u64 {
    status("VmRSS:")
}

/// Peak resident memory of the process in bytes; 0 where /proc is not available.
pub fn peak_bytes() -> u64 {
    status("VmHWM:")
}

fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Processor, cores, SIMD instructions, memory, operating system and load.
pub fn describe() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |path: &str, key: &str| {
        let text = read(path);
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_once(':')
            .map(|(_, value)| value.trim().to_string())
    };
    let numbers = ["cpu family", "model\t", "stepping"].map(|key| field("/proc/cpuinfo", key));
    json!({
        "processor": field("/proc/cpuinfo", "model name"),
        "family_model_stepping": numbers,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "instructions": instructions(),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average": read("/proc/loadavg").trim(),
    })
}

/// The SIMD instruction sets that the products can choose from.
fn instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// Versions of this program and its dependencies, from the lock file it was built with.
pub fn versions() -> Value {
    let lock = include_str!("../../Cargo.lock");
    let version = |name: &str| {
        let entry = lock
            .split("[[package]]")
            .find(|entry| entry.contains(&format!("name = \"{name}\"\n")))?;
        entry
            .lines()
            .find_map(|line| line.strip_prefix("version = "))
            .map(|version| version.trim_matches('"'))
    };
    json!({
        "ivon-lora": version("ivon-lora"),
        "burn": version("burn"),
        "gemm": version("gemm"),
        "tokenizers": version("tokenizers"),
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
        "commit": commit(),
    })
}

/// The commit checked out in the current folder; with `-dirty` if files differ from it.
fn commit() -> Option<String> {
    let output = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// The command line, quoted so that it can be typed again.
pub fn command_line() -> String {
    let quoted = |word: String| {
        if word.contains(char::is_whitespace) {
            format!("'{word}'")
        } else {
            word
        }
    };
    std::env::args().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Gives rayon's pool this many threads, for the rest of the process.
///
/// # Errors
/// If the pool exists already or a thread cannot be started.
pub fn start_threads(threads: usize) -> Result<(), Failure> {
    Ok(rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?)
}

/// Operations per second of a large f32 product, `[1024, 2048] · [2048, 2048]`, by the gemm crate
/// on all threads of rayon's pool: the best of `repetitions`, since any disturbance only makes a
/// product slower.
pub fn product_rate(repetitions: usize) -> f64 {
    const M: usize = 1024;
    const K: usize = 2048;
    const N: usize = 2048;
    let wave = |count: usize| {
        (0..count)
            .map(|index| (index % 257) as f32 / 257.0 - 0.5)
            .collect::<Vec<f32>>()
    };
    let (left, right, mut out) = (wave(M * K), wave(K * N), vec![0f32; M * N]);
    let mut best = f64::INFINITY;
    for _ in 0..repetitions {
        let started = Instant::now();
        // Sound: row-major slices of exactly these shapes, and `out` is borrowed mutably.
        unsafe {
            gemm::gemm(
                M,
                N,
                K,
                out.as_mut_ptr(),
                1,
                N as isize,
                false,
                left.as_ptr(),
                1,
                K as isize,
                right.as_ptr(),
                1,
                N as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
        best = best.min(started.elapsed().as_secs_f64());
    }
    assert!(
        out.iter().all(|x| x.is_finite()),
        "a product of finite numbers"
    );
    2.0 * (M * K * N) as f64 / best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_names_the_versions() {
        assert_eq!(
            (&versions()["burn"], &versions()["gemm"]),
            (&json!("0.22.1"), &json!("0.19.0"))
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_machine_is_described_and_memory_is_read() {
        let machine = describe();
        assert!(
            machine["processor"].is_string() && machine["cores"].as_u64() > Some(0),
            "{machine}"
        );
        // Resident memory first: the peak may rise between the two readings.
        let resident = resident_bytes();
        assert!(resident > 1 << 20 && peak_bytes() >= resident / 2);
    }
}
