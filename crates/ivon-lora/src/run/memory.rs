//! The memory of the machine and of the process.

/// Bytes that the system says are free, where it says so.
pub fn available_memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
}

/// Gives back to the system what a run has left unused.
///
/// glibc keeps what is freed for the threads that freed it, and each run has threads of its own: from run to run a process of many
/// would keep more.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // Sound: it takes no pointer, and glibc's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
