//! The program `bench`; everything is in the library of this crate, which the micro-benchmarks use
//! too.

fn main() -> Result<(), bench::Failure> {
    bench::run()
}
