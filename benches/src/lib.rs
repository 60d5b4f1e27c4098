//! What the benchmarks share. The benchmarks themselves are the binaries of this crate.

pub mod client;
pub mod copy_data;
pub mod postgres;
pub mod workload;
