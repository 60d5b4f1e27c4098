//! The crash test as part of `cargo test`; `make crash` runs it longer.

use std::process::Command;

#[test]
fn nothing_is_lost_doubled_or_changed_over_50_kills() {
    let output = Command::new(env!("CARGO_BIN_EXE_crashtest"))
        .args(["--cycles", "50", "--seed", "1"])
        .output()
        .expect("crashtest can be started");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{text}");
}
