//! Descriptors run out while peers get sockets of their own: they stay with the listener and are served, the
//! failure is counted, and when there is room again promotions work again. And the number that is said to fit
//! into a limit does.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::lab::{Lab, Welcome, connected_to};
use crate::common::program::{Echo, check_refusal, example};
use crate::common::user::{hard_limit, set_limit};
use crate::common::{Bed, PATIENCE, Peer, loopback, role};

/// Promotions rest for so long after one has failed for want of descriptors, and then some.
const REST: Duration = Duration::from_millis(1_100);

#[test]
fn they_are_served_by_the_listener_until_there_is_room() {
    const ME: &str = "emfile_in_accept::they_are_served_by_the_listener_until_there_is_room";
    match role::mine() {
        Some(_) => runs_out(),
        None => drop(role::alone(ME, "server")),
    }
}

/// Leaves room for so many descriptors more.
fn leave_room_for(count: usize) {
    let open: HashSet<u64> = std::fs::read_dir("/proc/self/fd")
        .expect("proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // One of those is the folder's, which is closed by now: it is free, and counted as open.
    let free = (0..).filter(|number| !open.contains(number)).nth(count.saturating_sub(1)).expect("some");
    set_limit(libc::RLIMIT_NOFILE, if count == 0 { 0 } else { free + 1 }).expect("it can be lowered");
}

fn ask(lab: &mut Lab, at: SocketAddr, client: &Peer) {
    assert_eq!(lab.bed.ask(client, at, b"ask"), b"ask");
    assert_eq!(lab.datagram().1.remote, client.address());
}

fn runs_out() {
    let Some(mut lab) = Lab::start(loopback(), Welcome::Connect) else { return };
    let at = lab.address();
    let clients: Vec<_> = (0..40).map(|_| lab.bed.peer(at)).collect();
    let all: Vec<_> = clients.iter().map(Peer::address).collect();
    for client in &clients[..10] {
        ask(&mut lab, at, client);
        // So that the marker's socket is there, too.
        ask(&mut lab, at, client);
    }
    lab.until_connected_to(at, &all[..10]);
    let until_connected =
        |lab: &mut Lab, count: u64| lab.until("that many are connected", |stats| stats.connected() == count);

    leave_room_for(3);
    for client in &clients[10..30] {
        ask(&mut lab, at, client);
    }
    let stats =
        lab.until("all are decided", |s| s.promoted + s.promotions_failed + s.promotions_refused == 30);
    // One of the three may have been used for something else, and the folder's is another one.
    assert!((11..=14).contains(&stats.promoted), "{stats:?}");
    assert!(stats.promotions_failed >= 1 && stats.promotions_refused >= 10, "{stats:?}");
    for client in &clients[..30] {
        ask(&mut lab, at, client);
    }
    let connected = stats.promoted;

    // There is still no room: another one fails when the rest is over, and is served all the same.
    lab.bed.pass(REST);
    ask(&mut lab, at, &clients[30]);
    lab.until("it fails again", |now| now.promotions_failed == stats.promotions_failed + 1);
    ask(&mut lab, at, &clients[30]);

    set_limit(libc::RLIMIT_NOFILE, u64::MAX).expect("it can be raised");
    ask(&mut lab, at, &clients[31]);
    lab.until("while it rests nothing is tried", |now| {
        now.promotions_refused + now.promotions_failed
            == stats.promotions_refused + stats.promotions_failed + 2
    });
    lab.bed.pass(REST);
    // The first one that comes is promoted at once.
    ask(&mut lab, at, &clients[32]);
    until_connected(&mut lab, connected + 1);
    for client in &clients[33..] {
        ask(&mut lab, at, client);
    }
    until_connected(&mut lab, connected + 8);
    // So are those that were refused.
    let missing: Vec<_> = all[..33].iter().copied().filter(|a| !connected_to(at).contains(a)).collect();
    assert_eq!(missing.len() as u64, 40 - connected - 8);
    lab.run(0, move |subject, cx| missing.iter().for_each(|remote| cx.io.promote(subject.at(*remote))));
    lab.until_connected_to(at, &all);
    for client in &clients {
        ask(&mut lab, at, client);
    }
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.handovers_timed_out, stats.kernel_dropped), (40, 0, 0));
    assert_eq!((stats.peers_opened, stats.restarts), (40, 0));
}

#[test]
fn as_many_as_are_said_to_fit_do() {
    if Bed::uring().is_none() {
        return;
    }
    const LIMIT: u64 = 200;
    let limited = |peers: u64| {
        let mut command = Command::new(example("echo"));
        hard_limit(&mut command, libc::RLIMIT_NOFILE, LIMIT);
        command.args(["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--backend", "uring"]);
        command.args(["--shards", "2", "--tier", "connected", "--max-connected", &peers.to_string()]);
        command
    };
    let error = check_refusal(&limited(1_000).output().unwrap());
    let fits = error.split("leaves room for ").nth(1).and_then(|rest| rest.split(':').next());
    let fits: u64 = fits.and_then(|number| number.parse().ok()).expect("it says how many fit");
    assert!((20..LIMIT).contains(&fits), "{error}");
    let echo = Echo::spawn(&mut limited(fits));
    let addresses = echo.addresses();
    // More than fit: the shares of the shards are filled whichever shard a client belongs to.
    let clients: Vec<_> = (0..fits * 3)
        .map(|n| {
            let to = addresses[(n % 2) as usize];
            let socket = UdpSocket::bind((to.ip(), 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            (socket, to)
        })
        .collect();
    for _ in 0..3 {
        for (socket, to) in &clients {
            socket.send_to(b"hello", to).unwrap();
            assert_eq!(socket.recv(&mut [0; 16]).expect("an answer"), 5);
        }
    }
    // All places are taken: none was lost for want of a descriptor. Those on their way out are connected to
    // themselves.
    let connected = |at: &SocketAddr| connected_to(*at).into_iter().filter(|remote| remote != at).count();
    let count = || addresses.iter().map(connected).sum::<usize>() as u64;
    let end = Instant::now() + PATIENCE;
    while count() != fits {
        assert!(Instant::now() < end, "{} of {fits}", count());
        std::thread::sleep(Duration::from_millis(1));
    }
    echo.signal("TERM");
    let (status, said, errors) = echo.finish();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(said.contains(" dropped=0 kernel_dropped=0 send_failed=0 "), "{said}");
}
