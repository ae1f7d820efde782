//! Failed memory allocation → an error message instead of an abort without a reason.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::exit::Exit;

/// The system's allocator; when it fails, the program ends with an error message. Files are written
/// under temporary names, so ending at any moment leaves existing files intact.
pub struct Memory;

// Sound: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        checked(unsafe { System.realloc(memory, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

fn checked(memory: *mut u8, size: usize) -> *mut u8 {
    if memory.is_null() {
        refused(size);
    }
    memory
}

/// Reports the failure without allocating, and exits.
fn refused(size: usize) -> ! {
    let mut text = [0; 160];
    let length = sentence(size >> 20, &mut text);
    // Sound: pointer and length are those of one array. Whatever standard error does not accept is
    // lost.
    unsafe {
        libc::write(2, text.as_ptr().cast(), length);
        libc::_exit(Exit::Failure as i32)
    }
}

/// Writes the message into `text` and returns its length in bytes.
fn sentence(megabytes: usize, text: &mut [u8]) -> usize {
    use std::io::Write;
    let whole = text.len();
    let mut rest: &mut [u8] = text;
    let _ = write!(
        rest,
        "error: out of memory: the system refused {megabytes} MiB more\n\n"
    );
    let _ = writeln!(
        rest,
        "hint: use a smaller --batch-size, --max-length or model, or raise the limit (ulimit -v)"
    );
    whole - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_sentence_and_a_hint_and_has_room() {
        let mut text = [0; 160];
        let length = sentence(usize::MAX >> 20, &mut text);
        let said = std::str::from_utf8(&text[..length]).unwrap();
        assert!(
            said.starts_with(
                "error: out of memory: the system refused 17592186044415 MiB more\n\nhint: "
            ),
            "{said}"
        );
        assert!(said.ends_with("(ulimit -v)\n"), "{said}");
    }
}
