//! A test that needs a process of its own runs its program again, with a role.

use std::process::Command;

/// Says which part a process of the test plays; not set in the process the test runner started.
const ROLE: &str = "SHARDGRAM_TEST_ROLE";

/// The part this process plays, if it was started to play one.
pub fn mine() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Adds to a command, which may be one that runs another, this program, a test and a role for it.
pub fn again<'a>(command: &'a mut Command, test: &str, role: &str) -> &'a mut Command {
    play(command.arg(std::env::current_exe().expect("a path")), test, role)
}

/// The same for a command that is this program.
pub fn play<'a>(command: &'a mut Command, test: &str, role: &str) -> &'a mut Command {
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role)
}

/// Runs a test in a role, in a process of its own where limits and filters touch nobody else, and gives what it
/// said. It has to pass.
pub fn alone(test: &str, role: &str) -> String {
    let here = std::env::current_exe().expect("a path");
    passes(play(&mut Command::new(here), test, role))
}

/// Runs a test in a role and gives what it said. It has to pass.
pub fn passes(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{said}\n{errors}");
    assert!(said.contains("1 passed"), "there is no such test: {command:?}");
    said
}
