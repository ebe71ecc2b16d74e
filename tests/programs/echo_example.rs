//! The echo example as a user meets it: its ready line, its end, and what it says to bad input.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::common::namespace::{alone, run};
use crate::common::program::{Echo, refused};

fn ask(to: SocketAddr, bytes: &[u8]) {
    let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::]:0" }).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(bytes, to).unwrap();
    let mut buffer = [0; 2048];
    let (len, from) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!((&buffer[..len], from), (bytes, to));
}

#[test]
fn it_says_what_serves_and_drains_on_sigterm() {
    for backend in ["auto", "mio"] {
        let echo = Echo::start(&[
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
            "--shards",
            "2",
            "--backend",
            backend,
        ]);
        let addresses = echo.addresses();
        let words: Vec<_> = echo.ready.split(' ').collect();
        assert_eq!((words[0], words[1], words[3]), ("listening", "on", "shards=2"), "{}", echo.ready);
        assert!(words[4] == "backend=uring" || words[4] == "backend=mio", "{}", echo.ready);
        addresses.iter().for_each(|to| ask(*to, b"hello"));
        echo.signal("TERM");
        let (status, said, errors) = echo.finish();
        assert_eq!(status.code(), Some(0), "{errors}");
        assert_eq!(said.lines().count(), 1, "one line of totals: {said}");
        assert!(said.starts_with("received=2 sent=2 dropped=0"), "{said}");
    }
}

#[test]
fn sigint_drains_too() {
    let echo = Echo::start(&["--listen", "127.0.0.1:0"]);
    ask(echo.addresses()[0], b"hello");
    echo.signal("INT");
    let (status, said, _) = echo.finish();
    assert_eq!((status.code(), said.lines().count()), (Some(0), 1));
}

#[test]
fn the_ready_line_names_the_tier_and_the_line_of_counters_who_is_connected() {
    for tier in ["listener", "connected", "adaptive"] {
        let arguments = ["--listen", "127.0.0.1:0", "--tier", tier, "--max-connected", "8", "--stats", "1"];
        let mut echo = Echo::start(&[&arguments[..], &["--wait", "spin:1ms"]].concat());
        // Where io_uring is refused, and with it sockets of peers' own, it says so.
        let uring = echo.ready.contains(" backend=uring ");
        let named = if uring { format!(" tier={tier} accept=") } else { " tier=listener".to_owned() };
        assert!(echo.ready.contains(&named), "{}", echo.ready);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for _ in 0..100 {
            socket.send_to(b"hello", echo.addresses()[0]).unwrap();
            socket.recv(&mut [0; 16]).expect("an answer");
        }
        let line = echo.line();
        let connected = u64::from(uring && tier != "listener");
        assert!(line.ends_with(&format!(" connected={connected}")), "{line}");
        echo.signal("TERM");
        assert_eq!(echo.finish().0.code(), Some(0));
    }
}

#[test]
fn statistics_come_every_second() {
    let mut echo = Echo::start(&["--listen", "127.0.0.1:0", "--stats", "1"]);
    ask(echo.addresses()[0], b"hello");
    let lines = [echo.line(), echo.line()];
    echo.signal("TERM");
    assert_eq!(echo.finish().0.code(), Some(0));
    assert!(lines.iter().all(|line| line.starts_with("received=1 sent=1 ")), "{lines:?}");
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let held = held.local_addr().unwrap().to_string();
    for (arguments, cause, remedy) in [
        (&["--frobnicate"][..], "--frobnicate", "--help"),
        (&["--listen", "nowhere"], "nowhere", "--help"),
        (&["--listen", "127.0.0.1"], "127.0.0.1", "--help"),
        (&["--listen", "203.0.113.1:9000"], "203.0.113.1:9000 is not an address of this host", "ip addr"),
        (&["--listen", "224.0.0.1:9000"], "multicast", "bind an address of this host"),
        (&["--listen", held.as_str()], "in use", "ss -ulnp"),
        (&["--listen", "127.0.0.1:9", "--listen", "127.0.0.1:9"], "listened on twice", ""),
        (&["--shards", "0"], "shards = 0", "1 to 1024"),
        (&["--shards", "70000"], "70000", "--help"),
        (&["--shards", "2", "--cores", "0"], "1 cores are named for 2 shards", "one core per shard"),
        (&["--cores", "999"], "999", "0"),
        (&["--backend", "kqueue"], "kqueue", "auto, uring or mio"),
        (&["--tier", "own"], "own", "listener, connected or adaptive"),
        (&["--tier", "connected", "--backend", "mio"], "tier=connected", "ask for the tier listener"),
        (&["--receivers", "some"], "some", "auto, per-shard or one"),
        (&["--receivers", "one", "--backend", "uring"], "receivers=one", "ask for receivers=auto"),
        (&["--listen", "0.0.0.0:9", "--listen", "127.0.0.1:9"], "takes what is sent", "the wildcard alone"),
        (&["--wait", "spin:long"], "spin:long", "spin:50us"),
        (&["--listen", "192.0.2.1"], "not an address with a port", "192.0.2.1:53"),
        (&["--listen", "[fe80::1%no-such]:9"], "no-such", "`ip link`"),
        (&["--listen", "[fe80::1%471100]:9"], "no interface 471100", "`ip link`"),
        (&["--listen", "[::1%1]:9"], "has a scope", "write it without"),
        (&["--max-connected", "1000000"], "1000000 connected peers", "ulimit -n"),
    ] {
        let error = refused(arguments);
        assert!(error.starts_with("echo: "), "{error}");
        assert!(error.contains(cause) && error.contains(remedy), "{arguments:?}: {error}");
    }
}

/// Whoever reads its counters goes away, as a pager does or a log that is turned over.
#[test]
fn it_goes_on_without_a_reader() {
    let mut echo = Echo::start(&["--listen", "127.0.0.1:0", "--stats", "1"]);
    let to = echo.addresses()[0];
    echo.line();
    echo.close_output();
    // The next line of counters finds nobody, and so do the totals.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(2_500) {
        ask(to, b"hello");
        std::thread::sleep(Duration::from_millis(50));
    }
    echo.signal("TERM");
    let (status, _, errors) = echo.finish();
    assert_eq!((status.code(), &*errors), (Some(0), ""));
}

#[test]
fn the_scope_of_an_address_may_be_an_interface() {
    alone(concat!(module_path!(), "::the_scope_of_an_address_may_be_an_interface"), || {
        run("ip addr add fe80::7/64 dev lo nodad");
        let link = run("ip -o link show lo");
        let index = link.split(':').next().expect("it begins with the index").to_owned();
        let address = format!("[fe80::7%{index}]:9000").parse().unwrap();
        for scope in ["lo", &index] {
            let echo = Echo::start(&["--listen", &format!("[fe80::7%{scope}]:9000")]);
            assert_eq!(echo.addresses(), [address], "{}", echo.ready);
            ask(address, b"hello");
            echo.signal("TERM");
            assert_eq!(echo.finish().0.code(), Some(0));
        }
    });
}
