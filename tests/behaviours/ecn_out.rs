//! The DSCP that a socket hook sets stays beside the marks of handlers, and without a mark all of the hook's byte does.
#![cfg(target_os = "linux")]

use std::net::{IpAddr, SocketAddr};

use shardgram::{Config, Server, SocketHook, TierPolicy};
use shardgram_conformance::Marks;

use crate::common::marks::{DSCP, Marker, hook_with, marked};
use crate::common::{Bed, Served};

fn serve(bed: &mut Bed, config: Config, hook: Option<SocketHook>) -> Served<SocketAddr> {
    let Bed::Real(backend) = bed else { unreachable!("a real driver") };
    let server = Server::bind_with(config.backend(*backend), hook).expect("the server binds");
    Served::Real(server.spawn(|_| Marks).expect("it starts"))
}

/// Addresses to listen on, and those to write to.
fn listens() -> [(SocketAddr, IpAddr); 4] {
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")]
        .map(|(at, to)| (SocketAddr::new(at.parse().unwrap(), 0), to.parse().unwrap()))
}

/// Does something with a client of a server, for each address and in each tier.
fn everywhere(bed: &mut Bed, class: u8, check: impl Fn(&Marker, SocketAddr)) {
    for tier in bed.tiers() {
        let config = listens().iter().fold(Config::new().tier(tier), |config, (at, _)| config.listen(*at));
        // Those of a wildcard have listeners of their own, unless there are to be none.
        for config in [config.clone(), config.max_local_addresses(0)] {
            let server = serve(bed, config, (class != 0).then(|| hook_with(class)));
            for (promoted, (at, (_, ip))) in (1..).zip(bed.addresses(&server).into_iter().zip(listens())) {
                let (client, to) = (Marker::new(ip), SocketAddr::new(ip, at.port()));
                client.send(to, 0, None, b"m\0");
                assert_eq!(client.receive().class, class, "{to} {tier}");
                let own = tier == TierPolicy::Connected && bed.stats(&server).promotions_refused == 0;
                if own && promoted <= 2 {
                    bed.until("it is connected", |bed| bed.stats(&server).promoted == promoted);
                }
                check(&client, to);
            }
            let stats = bed.drain(server);
            assert_eq!(stats.send_failed(), 0, "{stats:?}");
        }
    }
}

/// Asks for datagrams with these marks, in one turn, and wants them in order, each in a train of its like.
fn expect(client: &Marker, to: SocketAddr, class: u8, marks: &[u8]) {
    client.send(to, 0, None, &[b"m", marks].concat());
    let mut number = 0;
    for run in marks.chunk_by(|a, b| a == b) {
        let got = client.receive();
        let bytes: Vec<u8> = (number..).take(run.len()).flat_map(|number: u8| [number; Marks::LEN]).collect();
        number += run.len() as u8;
        assert_eq!(got.class, marked(class, run[0]), "{marks:?}: {run:?} to {to}");
        assert_eq!(got.segment, (run.len() > 1).then_some(Marks::LEN), "{marks:?}: {run:?} to {to}");
        assert_eq!(got.bytes, bytes, "{marks:?} to {to}");
    }
}

/// Marks that change in a turn and from one to the next.
fn changes(client: &Marker, to: SocketAddr, class: u8) {
    for mark in [0, 1, 2, 3, 0, 2] {
        expect(client, to, class, &[mark]);
        expect(client, to, class, &[mark; 5]);
    }
    for marks in [
        &[2, 2, 2, 3, 3, 0, 0, 2][..],
        &[2, 2, 2, 2],
        &[0, 0, 1, 1, 1, 0],
        &[1, 2, 3, 0, 1, 2, 3, 0],
        &[3; 64],
        &[0; 64],
    ] {
        expect(client, to, class, marks);
    }
    for mark in [3, 1, 0] {
        client.send(to, 0, None, &[b'r', mark]);
        let got = client.receive();
        assert_eq!((got.class, &got.bytes[..]), (marked(class, mark), &[b'r', mark][..]));
    }
}

fn a_dscp_stays(mut bed: Bed) {
    everywhere(&mut bed, DSCP, |client, to| changes(client, to, DSCP));
}

fn without_a_mark_it_is_the_hooks_byte(mut bed: Bed) {
    everywhere(&mut bed, DSCP | 1, |client, to| changes(client, to, DSCP | 1));
}

fn by_an_endpoint(mut bed: Bed) {
    let server = serve(&mut bed, Config::new(), Some(hook_with(DSCP)));
    for (_, ip) in &listens()[..2] {
        let friend = Marker::new(*ip);
        bed.tell(&server, 0, friend.address());
        let hello = friend.receive();
        assert_eq!((hello.class, &hello.bytes[..]), (DSCP | 1, &b"hello"[..]));
    }
    bed.drain(server);
}

on_real_drivers!(a_dscp_stays, without_a_mark_it_is_the_hooks_byte, by_an_endpoint);
