//! An endpoint bound to an interface sends by it though the routes say another, and hears nothing that comes by
//! another.

use std::net::{SocketAddr, UdpSocket};

use crate::common::caller::Call;
use crate::common::namespace::{Host, await_link, ip, run};
use crate::common::{Bed, PATIENCE};
use shardgram::{Config, Endpoint, Interface};

/// The address that both neighbours have.
const THERE: [&str; 2] = ["10.99.0.1", "fd99::1"];

/// Two neighbours with the same addresses, each behind an interface of its own; the better route is that by `v0`.
fn two_neighbours() -> [Host; 2] {
    let neighbours = [Host::new(), Host::new()];
    for (n, host) in neighbours.iter().enumerate() {
        host.cable(&format!("v{n}"), "far");
        for (address, bits) in [(format!("10.78.{n}.2"), 24), (format!("fd78:{n}::2"), 64)] {
            host.run(&format!("ip addr add {address}/{bits} dev far{}", nodad(&address)));
        }
        THERE.iter().for_each(|address| {
            let bits = if address.contains(':') { 128 } else { 32 };
            host.run(&format!("ip addr add {address}/{bits} dev lo{}", nodad(address)));
        });
        host.run("ip link set far up");
        for (address, bits) in [(format!("10.78.{n}.1"), 24), (format!("fd78:{n}::1"), 64)] {
            ip(&format!("addr add {address}/{bits} dev v{n}{}", nodad(&address)));
        }
        // A reply by the worse route is no forgery here.
        std::fs::write(format!("/proc/sys/net/ipv4/conf/v{n}/rp_filter"), "0").expect("our namespace");
        ip(&format!("link set v{n} up"));
        await_link(run, &format!("v{n}"));
        for (address, gateway) in THERE.iter().zip([format!("10.78.{n}.2"), format!("fd78:{n}::2")]) {
            ip(&format!("route add {address} via {gateway} dev v{n} metric {}", 10 + n));
        }
        for (net, gateway) in
            [("10.78.0.0/16", format!("10.78.{n}.1")), ("fd78::/16", format!("fd78:{n}::1"))]
        {
            host.run(&format!("ip route add {net} via {gateway} dev far"));
        }
    }
    std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").expect("our namespace");
    neighbours
}

fn nodad(address: &str) -> &'static str {
    if address.contains(':') { " nodad" } else { "" }
}

fn index_of(name: &str) -> u32 {
    let line = run(&format!("ip -o link show {name}"));
    line.split(':').next().and_then(|index| index.parse().ok()).expect("it begins with the index")
}

fn an_endpoint_keeps_to_its_interface(bed: Bed) {
    let neighbours = two_neighbours();
    let mut call = Call::start(bed, Config::new());
    for (family, there) in THERE.iter().enumerate() {
        let to = SocketAddr::new(there.parse().unwrap(), 7_000);
        let listen = || {
            let socket = UdpSocket::bind(to).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let [near, far] = neighbours.each_ref().map(|host| host.inside(listen));
        let hear = |socket: &UdpSocket| {
            let mut bytes = [0; 16];
            let (len, from) = socket.recv_from(&mut bytes).expect("it comes this way");
            (bytes[..len].to_vec(), from)
        };

        let (_, free) = call.open(Endpoint::towards(to), to, b"free");
        let (bytes, back) = hear(&near);
        assert_eq!(bytes, b"free", "the routes say so");
        far.send_to(b"by the other way", back).unwrap();
        call.hears(free, b"by the other way");

        let interface = if family == 0 { Interface::named("v1") } else { Interface::index(index_of("v1")) };
        let (_, bound) = call.open(Endpoint::towards(to).on_interface(interface.unwrap()), to, b"bound");
        let (bytes, back) = hear(&far);
        assert_eq!(bytes, b"bound", "whatever the routes say");
        let received = call.stats().received;
        // What follows it by the same cable has come, so it would have.
        let witness = UdpSocket::bind(SocketAddr::new(back.ip(), 0)).unwrap();
        witness.set_read_timeout(Some(PATIENCE)).unwrap();
        near.send_to(b"by the wrong interface", back).unwrap();
        near.send_to(b"later", witness.local_addr().unwrap()).unwrap();
        assert_eq!(witness.recv(&mut [0; 16]).expect("it comes by the cable"), 5);
        far.send_to(b"by the right one", back).unwrap();
        call.hears(bound, b"by the right one");
        assert_eq!(call.stats().received, received + 1, "the other was not received");
    }
    assert_eq!(call.drain().dropped_foreign, 0);
}

in_namespaces!(an_endpoint_keeps_to_its_interface);
