//! The program `bench`; everything is in the library beside it, which the micro-benchmarks use too.

fn main() -> Result<(), bench::Failure> {
    bench::run()
}
