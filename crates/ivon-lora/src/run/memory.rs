//! The memory of the machine and of the process.

/// Bytes that a run may still take: the minimum of what is free on the machine, within the process's
/// limit on its address space (`ulimit -v`), and within its control group (a container's limit). None
/// if none of them is known.
pub fn available_memory() -> Option<f64> {
    [machine(), address_space(), control_group()]
        .into_iter()
        .flatten()
        .reduce(f64::min)
}

/// Free memory of the machine.
fn machine() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace()
        .next()?
        .parse::<f64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024.0)
}

/// What is left within the limit on the address space.
#[cfg(target_os = "linux")]
fn address_space() -> Option<f64> {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // Sound: the system writes into `limit` and nothing else.
    let answered = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) == 0 };
    if !answered || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    let sizes = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = sizes.split_whitespace().next()?.parse().ok()?;
    // Sound: it only reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as f64;
    Some((limit.rlim_cur as f64 - pages * page).max(0.0))
}

#[cfg(not(target_os = "linux"))]
fn address_space() -> Option<f64> {
    None
}

/// What is left within the limit of the process's control group (version 2).
fn control_group() -> Option<f64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = std::path::Path::new("/sys/fs/cgroup").join(group);
    let read = |name: &str| {
        std::fs::read_to_string(folder.join(name))
            .ok()?
            .trim()
            .parse::<f64>()
            .ok()
    };
    Some((read("memory.max")? - read("memory.current")?).max(0.0))
}

/// Returns unused memory to the system.
///
/// glibc keeps freed memory for the threads that freed it, and each run has threads of its own, so that
/// a process with many runs would keep more and more.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // Sound: it takes no pointer, and glibc's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
