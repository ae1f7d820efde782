//! Plain loops compiled for the widest SIMD instructions of the CPU.

use pulp::{Arch, Simd, WithSimd};

/// Runs `work` compiled for the widest instructions available: AVX-512, AVX2, NEON.
///
/// `work` must change what it captures: only then is its body called here directly, and not through
/// a shim that the compiler leaves outside, compiled for the oldest CPU. It needs
/// `#[inline(always)]`, and so does everything it calls.
#[inline(always)]
pub fn wide(work: impl FnMut()) {
    struct Work<W>(W);
    impl<W: FnMut()> WithSimd for Work<W> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) {
            (self.0)();
        }
    }
    Arch::new().dispatch(Work(work));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_once() {
        let mut count = 0;
        wide(
            #[inline(always)]
            || count += 1,
        );
        assert_eq!(count, 1);
    }
}
