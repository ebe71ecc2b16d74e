//! The table of conformance is whole, names tests that are there, and is what its page says.
#![allow(clippy::unwrap_used, reason = "a test program")]

use std::path::{Path, PathBuf};

use shardgram_conformance::table::{self, ELSEWHERE};

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

/// The plan of `sys/`, from which the mio driver says what it can do, against the table, for every system.
#[test]
fn the_plan_of_each_system_is_that_of_the_table() {
    use shardgram_conformance::table::{Driver, Os, Platform, expected};
    use shardgram_core::Capability;
    use shardgram_sys::plan;

    let systems = [
        (Os::Linux, plan::Os::Linux),
        (Os::FreeBsd, plan::Os::FreeBsd),
        (Os::MacOs, plan::Os::MacOs),
        (Os::OpenBsd, plan::Os::OpenBsd),
        (Os::OpenBsd, plan::Os::NetBsd),
        (Os::Windows, plan::Os::Windows),
    ];
    for (os, planned) in systems {
        for one_receiver in [false, true] {
            let platform = Platform { driver: Driver::Mio, os, one_receiver };
            let sharing = if one_receiver { plan::Sharing::OneReceiver } else { plan::Sharing::PerShard };
            let able = planned.able(sharing);
            for capability in Capability::ALL {
                let can = match capability {
                    Capability::TrainsOut => planned.trains_out().is,
                    Capability::Connected => false,
                    Capability::Blocking => true,
                    other => able.contains(&other),
                };
                let expected = expected(capability, platform).reason().is_none();
                assert_eq!(can, expected, "{planned}, one receiver {one_receiver}: {capability}");
            }
        }
    }
}
