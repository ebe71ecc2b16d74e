//! An ordinary user may serve and be served; a privileged port is refused with the remedy.

use crate::common::program::{Echo, check_refusal, example};
use crate::common::user::as_user;

/// `nobody` on every Linux.
const NOBODY: u32 = 65_534;

#[test]
fn it_serves() {
    let (mut command, _folder) = as_user(&example("echo"), NOBODY);
    let echo = Echo::spawn(command.args(["--listen", "127.0.0.1:0", "--shards", "2"]));
    assert!(echo.ready.contains(" backend="), "{}", echo.ready);
    echo.signal("TERM");
    assert_eq!(echo.finish().0.code(), Some(0));
}

#[test]
fn it_may_keep_to_an_interface() {
    let echo = Echo::start(&["--listen", "127.0.0.1:0"]);
    let at = echo.addresses()[0].to_string();
    let (mut command, _folder) = as_user(&example("dial"), NOBODY);
    let output = command.args([&at, "--interface", "lo", "--try-for-ms", "10000"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with(" answers: hello\n"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_privileged_port_names_the_capability() {
    let (mut command, _folder) = as_user(&example("echo"), NOBODY);
    let output = command.args(["--listen", "127.0.0.1:53"]).output().unwrap();
    let error = check_refusal(&output);
    assert!(error.contains("CAP_NET_BIND_SERVICE"), "{error}");
    assert!(error.contains("ip_unprivileged_port_start"), "{error}");
}
