//! Endpoints speak to servers, close, and open anew.

mod support;

use std::net::SocketAddr;
use std::sync::mpsc::channel;

use shardgram_core::{CloseReason, Endpoint, EndpointId, PeerError, Via};
use shardgram_sys::SocketOptions;
use support::{Bound, Seen, Shards, client, config, echo_at, receive};

fn idle() -> Shards {
    Bound::new(config(&[]), SocketOptions::default()).start(false)
}

/// Opens an endpoint that says hello to a server.
fn call(from: &Shards, server: SocketAddr, text: &'static [u8]) -> EndpointId {
    let (sender, id) = channel();
    from.run(0, move |_, cx| {
        let endpoint = cx.io.endpoint(Endpoint::towards(server)).expect("room");
        let peer = cx.open(Via::Endpoint(endpoint), server, ()).expect("peer");
        cx.io.send(peer, text).expect("queued");
        sender.send(endpoint).expect("the test waits");
    });
    id.recv().expect("the job ran")
}

#[test]
fn a_client_and_a_server() {
    for address in ["127.0.0.1:0", "[::1]:0"].into_iter().filter(|address| support::here(address)) {
        let (server, caller) = (echo_at(address), idle());
        call(&caller, server.address(), b"hello");
        let (path, _, bytes) = caller.next_datagram();
        assert_eq!((path.remote, bytes), (server.address(), b"hello".to_vec()));
        assert!(path.local.ip().is_unspecified(), "routing picks the source of each send");
        server.stop();
        assert_eq!(caller.stop().received, 1);
    }
}

#[test]
fn closed_and_opened_again() {
    let (server, caller) = (echo_at("127.0.0.1:0"), idle());
    for round in 0..20 {
        let endpoint = call(&caller, server.address(), b"hello");
        assert_eq!(caller.next_datagram().2, b"hello", "round {round}");
        caller.run(0, move |_, cx| cx.close_endpoint(endpoint));
        assert_eq!(caller.next(), Seen::Closed(CloseReason::EndpointClosed));
    }
    server.stop();
    assert_eq!(caller.stop().received, 20);
}

#[test]
fn nothing_of_a_closed_one_is_handed_over() {
    let caller = idle();
    let server = client("127.0.0.1:0");
    let to = server.local_addr().expect("address");
    let endpoint = call(&caller, to, b"hello");
    let (_, from) = receive(&server);
    let (ready, go) = channel();
    let (sent, done) = channel::<()>();
    caller.run(0, move |_, cx| {
        // While the shard is here, its endpoint fills up.
        ready.send(()).expect("the test waits");
        done.recv().expect("the test goes on");
        cx.close_endpoint(endpoint);
    });
    go.recv().expect("the job began");
    for _ in 0..10 {
        server.send_to(b"too late", from).expect("send");
    }
    sent.send(()).expect("the job waits");
    assert_eq!(caller.next(), Seen::Closed(CloseReason::EndpointClosed));
    call(&caller, to, b"again");
    let (_, from) = receive(&server);
    server.send_to(b"in time", from).expect("send");
    assert_eq!(caller.next_datagram().2, b"in time");
    assert_eq!(caller.stop().received, 1);
}

#[test]
#[cfg(target_os = "linux")]
fn what_a_closed_one_dropped_stays_counted() {
    let caller = Bound::new(config(&[]).receive_socket_bytes(4096), SocketOptions::default()).start(false);
    let server = client("127.0.0.1:0");
    let endpoint = call(&caller, server.local_addr().expect("address"), b"hello");
    let (_, from) = receive(&server);
    let (ready, go) = channel();
    let (sent, done) = channel::<()>();
    caller.run(0, move |_, _| {
        ready.send(()).expect("the test waits");
        done.recv().expect("the test goes on");
    });
    go.recv().expect("the job began");
    for _ in 0..500 {
        server.send_to(&[7; 100], from).expect("send");
    }
    sent.send(()).expect("the job waits");
    support::until("all are accounted for", || {
        let now = caller.snapshot();
        now.received + now.kernel_dropped == 500
    });
    let before = caller.snapshot();
    assert!(before.kernel_dropped > 0);
    caller.run(0, move |_, cx| cx.close_endpoint(endpoint));
    support::until("it is closed", || caller.snapshot().peers() == 0);
    assert_eq!(caller.snapshot().kernel_dropped, before.kernel_dropped);
    caller.stop();
}

#[test]
fn one_that_cannot_be_opened_tells_its_peers() {
    let caller = idle();
    let taken = client("127.0.0.1:0");
    let address = taken.local_addr().expect("address");
    caller.run(0, move |_, cx| {
        let endpoint = cx.io.endpoint(Endpoint::bound(address)).expect("room");
        let peer =
            cx.open(Via::Endpoint(endpoint), "127.0.0.1:9".parse().expect("address"), ()).expect("peer");
        cx.io.send(peer, b"hello").expect("queued");
    });
    let in_use = std::net::UdpSocket::bind(address).expect_err("in use").raw_os_error().expect("number");
    assert_eq!(caller.next(), Seen::Error(PeerError::NotOpened { errno: in_use }));
    assert!(matches!(caller.next(), Seen::Error(PeerError::NotOpened { .. })), "its send failed as well");
    assert_eq!(caller.stop().send_failed_other, 1);
}
