//! The table of conformance is whole, names tests that are there, and is what its page says.
#![allow(clippy::unwrap_used, reason = "a test program")]

use std::path::{Path, PathBuf};

use shardgram_core::conformance::table::{self, ELSEWHERE};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_behaviour_has_a_row_and_every_no_a_reason() {
    assert_eq!(table::faults(), Vec::<String>::new());
}

/// Test files of these folders, but for what only holds them together.
fn test_files() -> Vec<PathBuf> {
    let folders = ["tests/behaviours", "tests/programs"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| folder.read_dir().unwrap()).map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| !file.ends_with("main.rs")).collect();
    files.sort();
    files
}

#[test]
fn what_is_shown_elsewhere_is_all_there_and_named() {
    let mut named: Vec<_> = ELSEWHERE.iter().map(|test| root().join(test.file)).collect();
    named.sort();
    assert_eq!(named, test_files());
}

#[test]
fn its_page_is_what_it_says() {
    let page = root().join("docs/conformance.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, _) = text.split_once("## What each driver can do").expect("the page has an introduction");
    let now = format!("{before}{}", table::markdown());
    if std::env::var_os("SHARDGRAM_WRITE").is_some() {
        std::fs::write(&page, &now).unwrap();
        return;
    }
    let write = "SHARDGRAM_WRITE=1 cargo test -p shardgram --test conformance_table";
    assert!(text == now, "docs/conformance.md is not the table any more; this writes it: {write}");
}
