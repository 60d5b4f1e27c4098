//! What the benchmarks share. The benchmarks themselves are the binaries of this crate.

pub mod workload;
