//! A low limit of descriptors (RLIMIT_NOFILE): the server starts with what fits and says how much that is, or does not
//! start and says so in one line.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use crate::common::Bed;
use crate::common::program::{Echo, check_refusal, example};
use crate::common::user::hard_limit;

/// The echo example where so many descriptors may be open.
fn echo(limit: u64, arguments: &str) -> Command {
    let mut command = Command::new(example("echo"));
    hard_limit(&mut command, libc::RLIMIT_NOFILE, limit);
    command.args(arguments.split(' '));
    command
}

/// Starts it, is answered by it, and gives its ready line and its warnings.
fn serves(limit: u64, arguments: &str) -> (String, String) {
    let echo = Echo::spawn(&mut echo(limit, arguments));
    for _ in 0..10 {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        peer.send_to(b"hello", ("127.0.0.1", echo.addresses()[0].port())).unwrap();
        assert_eq!(peer.recv(&mut [0; 16]).expect("an answer"), 5, "{}", echo.ready);
    }
    let ready = echo.ready.clone();
    echo.signal("TERM");
    let (status, _, errors) = echo.finish();
    assert_eq!(status.code(), Some(0), "{errors}");
    (ready, errors)
}

#[test]
fn a_wildcard_has_listeners_for_fewer_addresses() {
    if Bed::uring().is_none() {
        return;
    }
    for limit in [40, 48, 64, 100] {
        let (ready, warnings) = serves(limit, "--listen 0.0.0.0:0 --shards 2");
        assert!(ready.contains(" shards=2 backend=uring "), "{ready}");
        assert!(warnings.contains(&format!("the limit of {limit} descriptors leaves room")), "{warnings}");
        assert!(
            warnings.contains("max_local_addresses is 64") && warnings.contains("ulimit -n"),
            "{warnings}"
        );
    }
    let (_, warnings) = serves(300, "--listen 0.0.0.0:0 --shards 2");
    assert_eq!(warnings, "", "enough for all");
}

#[test]
fn shards_that_do_not_fit_are_refused() {
    for backend in ["auto", "mio"] {
        let arguments = format!("--listen 127.0.0.1:0 --shards 16 --backend {backend}");
        let error = check_refusal(&echo(64, &arguments).output().unwrap());
        assert!(error.contains("16 shards") && error.contains("the limit is 64"), "{error}");
        let fits = error.trim_end().strip_suffix(" shards").and_then(|rest| rest.rsplit(' ').next());
        let fits = fits.unwrap_or_else(|| panic!("{error}"));
        serves(64, &format!("--listen 127.0.0.1:0 --shards {fits} --backend {backend}"));
    }
}

#[test]
fn a_tier_that_does_not_fit_is_refused_and_one_that_hardly_fits_is_told() {
    if Bed::uring().is_none() {
        return;
    }
    let arguments = "--listen 0.0.0.0:0 --shards 2 --tier connected";
    let error = check_refusal(&echo(200, arguments).output().unwrap());
    assert!(error.contains("tier=connected was asked for") && error.contains("the limit of 200"), "{error}");
    assert!(error.contains("ulimit -n"), "{error}");
    let (ready, warnings) = serves(300, arguments);
    assert!(ready.contains(" tier=connected accept="), "{ready}");
    assert!(warnings.contains("room for 90 connected peers, and not for 4096"), "{warnings}");
}
