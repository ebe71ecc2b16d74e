//! The system's clocks tell for how long the machine was suspended. No test can suspend it; a time namespace
//! (time_namespaces(7)) sets apart the same two clocks.

use std::process::Command;
use std::time::Duration;

use crate::common::{role, skip};
use shardgram_sys::clocks::suspended;

const APART: Duration = Duration::from_secs(100_000);
/// Between a reading of one clock and of the other a thread may be kept from running.
const MOMENT: Duration = Duration::from_secs(5);

#[test]
fn the_time_that_one_clock_does_not_count_is_found() {
    if role::mine().is_some() {
        return println!("for {} ms", suspended().as_millis());
    }
    let apart = ["-r", "-T", "--boottime", &APART.as_secs().to_string()].map(str::to_owned);
    match Command::new("unshare").args(&apart).arg("true").output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => return skip::record(String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => return skip::record(&format!("unshare (util-linux): {error}")),
    }
    let here = suspended();
    let test = "suspended::the_time_that_one_clock_does_not_count_is_found";
    let said = role::passes(role::again(Command::new("unshare").args(&apart), test, "inside"));
    let (_, said) = said.split_once("for ").expect("it says so");
    let ms = said.split_once(" ms").expect("a number").0.parse().expect("a number");
    let there = Duration::from_millis(ms);
    assert!(there.abs_diff(here + APART) < MOMENT, "{there:?} there, {here:?} here");
}
