//! One seed, one run: a hundred processes agree, and seeds differ.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// The example, which `cargo test` builds beside the tests; when only some targets were built it may not
/// be there, and is built then.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("deps lies in the profile's directory");
    let name = format!("log_hash{}", std::env::consts::EXE_SUFFIX);
    let path = profile.join("examples").join(name);
    if !path.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "shardgram-sim", "--example", "log_hash"]);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        cargo.arg("--target-dir").arg(profile.parent().expect("the target directory"));
        assert!(cargo.status().expect("cargo runs").success(), "the example does not build");
    }
    path
}

fn hash(seed: u64) -> String {
    let output = Command::new(example()).arg(seed.to_string()).output().expect("the example runs");
    assert!(output.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn a_hundred_processes_agree() {
    let seed = 42;
    let first = hash(seed);
    assert_eq!(first.len(), 16, "a hash and nothing else: {first}");
    for run in 1..100 {
        assert_eq!(hash(seed), first, "run {run} of seed {seed}");
    }
}

#[test]
fn seeds_differ() {
    let hashes: BTreeSet<_> = (0..20).map(hash).collect();
    assert_eq!(hashes.len(), 20);
}
