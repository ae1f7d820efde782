//! Plain loops compiled for the widest instructions of the processor at hand.

use pulp::{Arch, Simd, WithSimd};

/// Runs `work` as it is compiled for the widest instructions there are: AVX-512, AVX2, NEON.
///
/// `work` must change what it captures: only then is its body what is called here, and not a shim
/// that the compiler would leave outside, compiled for the oldest processor. It carries
/// `#[inline(always)]`, and so does what it calls.
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
