//! An ordinary user may serve and be served; a privileged port is refused with the remedy.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::common::program::{Echo, check_refusal, example};

/// `nobody` on every Linux.
const NOBODY: u32 = 65_534;

/// The echo example as an ordinary user: as nobody, who may not be able to reach the folder it was built in,
/// if root runs the test.
fn as_nobody() -> (Command, Option<tempfile::TempDir>) {
    if !is_root() {
        return (Command::new(example("echo")), None);
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("echo");
    // Copied by another process: one that other tests start from here would hold the descriptor that this
    // one writes with until its own exec, and a file that is open for writing cannot be run (ETXTBSY).
    assert!(Command::new("cp").arg(example("echo")).arg(&copy).status().unwrap().success());
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    (command, Some(folder))
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"]))
}

#[test]
fn it_serves() {
    let (mut command, _folder) = as_nobody();
    let echo = Echo::spawn(command.args(["--listen", "127.0.0.1:0", "--shards", "2"]));
    assert!(echo.ready.contains(" backend="), "{}", echo.ready);
    echo.signal("TERM");
    assert_eq!(echo.finish().0.code(), Some(0));
}

#[test]
fn a_privileged_port_names_the_capability() {
    let (mut command, _folder) = as_nobody();
    let output = command.args(["--listen", "127.0.0.1:53"]).output().unwrap();
    let error = check_refusal(&output);
    assert!(error.contains("CAP_NET_BIND_SERVICE"), "{error}");
    assert!(error.contains("ip_unprivileged_port_start"), "{error}");
}
