//! Empty: this crate only names every third-party dependency of the workspace.
//!
//! Cargo unifies features over the packages of one command. `cargo test -p auspex-vpl` alone would
//! resolve other features for shared dependencies and compile DataFusion again;
//! `cargo test -p auspex-vpl -p auspex-deps` uses what is there.
