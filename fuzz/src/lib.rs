//! Shared by all targets: a folder in memory for the parser's file, and the promises that hold for
//! every input.
//!
//! A parser may take at most one second of processor time, and 64 MiB of memory plus 16 bytes for
//! each byte of its (decompressed) input. Breaking a promise ends the process, which libFuzzer
//! counts as a crash.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ivon_lora::model::{Checkpoint, DecoderConfig, ModelError};

/// Bytes of memory allowed per byte of input.
const FACTOR: usize = 16;
/// Bytes of memory allowed in addition.
const BESIDE: usize = 64 << 20;
/// Seconds of processor time allowed.
const SECONDS: f64 = 1.0;

/// The system's allocator, with counting.
struct Counting;

/// Bytes allocated now.
static HELD: AtomicIsize = AtomicIsize::new(0);
/// Peak of allocated bytes since the current input started.
static PEAK: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: isize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

// Sound: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old and the new block may be allocated at the same time.
        count(size as isize);
        let new = unsafe { System.realloc(memory, layout, size) };
        count(-(layout.size() as isize));
        new
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One of the valid files made by `make-seeds`, read once; a target cannot start without them.
pub fn fixed(name: &str) -> &'static [u8] {
    static READ: Mutex<BTreeMap<String, &'static [u8]>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(content) = read.get(name) {
        return content;
    }
    let path = fixed_path(name);
    let content =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let content: &'static [u8] = content.leak();
    read.insert(name.into(), content);
    content
}

/// The shape of the fixed model, read once.
pub fn fixed_decoder() -> &'static DecoderConfig {
    static DECODER: OnceLock<DecoderConfig> = OnceLock::new();
    DECODER.get_or_init(|| {
        let model = fixed_path("model");
        Checkpoint::open(&model.to_string_lossy())
            .expect("the fixed model opens")
            .config()
            .clone()
    })
}

/// Copies the named files from a folder of `fixed/` to where the parser looks.
pub fn lay(folder: &Path, from: &str, names: &[&str]) {
    for name in names {
        write(folder, name, fixed(&format!("{from}/{name}")));
    }
}

/// For inputs of several kinds: the file that the first byte selects, and its content.
pub fn choose<'a>(names: &[&'static str], data: &'a [u8]) -> Option<(&'static str, &'a [u8])> {
    let (first, content) = data.split_first()?;
    Some((names[usize::from(*first) % names.len()], content))
}

/// Opens the model in a folder and reads every tensor.
pub fn look_at_weights(folder: &Path) {
    let Some(checkpoint) = said(
        Checkpoint::open(&folder.to_string_lossy()),
        ModelError::hint,
    ) else {
        return;
    };
    let config = checkpoint.config();
    for rope in config.ropes().0 {
        let _ = rope.inverse_frequencies(config.head_dim);
    }
    let _ = said(checkpoint.fingerprint(), ModelError::hint);
    for name in checkpoint.names() {
        let _ = said(checkpoint.tensor(&name), ModelError::hint);
    }
}

/// The path of the file.
pub fn fixed_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixed")
        .join(name)
}

/// Runs the parser on an input in the process's own folder. `prepare` puts the constant files
/// there.
pub fn check(data: &[u8], prepare: fn(&Path), parse: fn(&Path, &[u8])) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() {
            memory.to_path_buf()
        } else {
            std::env::temp_dir()
        };
        let folder = root.join(format!("ivon-lora-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder in memory can be made");
        prepare(&folder);
        // libFuzzer's hook ends the process at any panic, even at panics of libraries that are
        // caught at the call.
        set_hook(Box::new(|_| {}));
        folder
    });
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let started = processor_seconds();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| parse(folder, data))) {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        eprintln!(
            "a panic reached the caller: {}",
            text.unwrap_or("without a text")
        );
        std::process::abort();
    }
    let seconds = processor_seconds() - started;
    let peak = (PEAK.load(Ordering::Relaxed) - before).max(0) as usize;
    let allowed = FACTOR * data.len() + BESIDE;
    if peak > allowed || seconds > SECONDS {
        eprintln!(
            "{} bytes of input took {peak} bytes of memory (allowed {allowed}) and {seconds:.2} s",
            data.len()
        );
        std::process::abort();
    }
}

/// Writes the input to a file of this name.
pub fn write(folder: &Path, name: &str, data: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, data).expect("the folder in memory can be written");
    path
}

/// Checks that the error is a sentence and that asking for its hint works.
pub fn said<T, E: std::error::Error, H: std::fmt::Display>(
    result: Result<T, E>,
    hint: fn(&E) -> Option<H>,
) -> Option<T> {
    result
        .map_err(|error| {
            assert!(!error.to_string().is_empty());
            let _ = hint(&error).map(|hint| hint.to_string());
        })
        .ok()
}

/// Processor time of this process, all threads.
fn processor_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // Sound: the system writes only into `time`.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
