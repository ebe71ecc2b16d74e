//! A socket hook has the kernel report more of what is received: a train stays what it is, however much that is. What
//! cannot be told any more is dropped and counted.
#![cfg(target_os = "linux")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use shardgram::{
    Accept, Backend, Config, Context, Datagram, Endpoint, Handler, Origin, PeerId, Server, SocketHook,
    TierPolicy, Via,
};

use crate::common::sockopt::{self, DESTINATION_OPTIONS};
use crate::common::{Bed, PATIENCE, Peer, Served, to_loopback};

/// An option: its name, level, number and value.
type Report = (&'static str, i32, i32, i32);

const OF_SOCKETS: [Report; 7] = [
    ("SO_TIMESTAMP", libc::SOL_SOCKET, libc::SO_TIMESTAMP, 1),
    ("SO_TIMESTAMPNS", libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1),
    // SOF_TIMESTAMPING_RX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE and SOF_TIMESTAMPING_OPT_PKTINFO (linux/net_tstamp.h).
    ("SO_TIMESTAMPING", libc::SOL_SOCKET, libc::SO_TIMESTAMPING, 1 << 3 | 1 << 4 | 1 << 13),
    ("SO_RXQ_OVFL", libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1),
    ("SO_WIFI_STATUS", libc::SOL_SOCKET, 41, 1),
    // Linux 5.19 and 6.14 (include/uapi/asm-generic/socket.h).
    ("SO_RCVMARK", libc::SOL_SOCKET, 75, 1),
    ("SO_RCVPRIORITY", libc::SOL_SOCKET, 82, 1),
];

const OF_IPV4: [Report; 8] = [
    ("IP_RECVTTL", libc::SOL_IP, libc::IP_RECVTTL, 1),
    ("IP_RECVTOS", libc::SOL_IP, libc::IP_RECVTOS, 1),
    ("IP_PKTINFO", libc::SOL_IP, libc::IP_PKTINFO, 1),
    ("IP_RECVOPTS", libc::SOL_IP, libc::IP_RECVOPTS, 1),
    ("IP_RETOPTS", libc::SOL_IP, libc::IP_RETOPTS, 1),
    ("IP_RECVORIGDSTADDR", libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1),
    ("IP_CHECKSUM", libc::SOL_IP, 23, 1),
    ("IP_RECVFRAGSIZE", libc::SOL_IP, 25, 1),
];

const OF_IPV6: [Report; 8] = [
    ("IPV6_RECVHOPLIMIT", libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT, 1),
    ("IPV6_RECVTCLASS", libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1),
    ("IPV6_RECVPKTINFO", libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1),
    ("IPV6_RECVORIGDSTADDR", libc::SOL_IPV6, 74, 1),
    ("IPV6_RECVFRAGSIZE", libc::SOL_IPV6, 77, 1),
    ("IPV6_FLOWINFO", libc::SOL_IPV6, 11, 1),
    ("IPV6_2292PKTINFO", libc::SOL_IPV6, 2, 1),
    ("IPV6_2292HOPLIMIT", libc::SOL_IPV6, 8, 1),
];

/// A hook that turns these on, as far as a socket of the address has them and the kernel knows them.
fn hook(reports: Vec<Report>) -> SocketHook {
    Arc::new(move |socket, address| {
        let family = if address.is_ipv6() { libc::SOL_IPV6 } else { libc::SOL_IP };
        for (name, level, option, value) in &reports {
            if *level != libc::SOL_SOCKET && *level != family {
                continue;
            }
            match sockopt::set_int(socket, *level, *option, *value) {
                Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                    println!("this kernel does not know {name}, or a socket of another family has it");
                }
                result => result?,
            }
        }
        Ok(())
    })
}

/// Each alone, and all at once.
fn choices(family: &[Report]) -> Vec<Vec<Report>> {
    let all: Vec<Report> = OF_SOCKETS.iter().chain(family).copied().collect();
    all.iter().map(|one| vec![*one]).chain([all.clone()]).collect()
}

/// Says how long each datagram is. A message has it open a peer through an endpoint.
struct Lens(Sender<usize>);

impl Handler for Lens {
    type Peer = ();
    type Timer = ();
    type Message = SocketAddr;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, to: SocketAddr) {
        let endpoint = cx.io.endpoint(Endpoint::towards(to)).expect("room");
        let peer = cx.open(Via::Endpoint(endpoint), to, ()).expect("room");
        cx.io.send(peer, b"hello").expect("room");
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let _ = self.0.send(datagram.len());
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len);
    }
}

fn serve(bed: &Bed, config: Config, hook: SocketHook) -> (Served<SocketAddr>, Receiver<usize>) {
    let Bed::Real(backend) = bed else { unreachable!("a real driver") };
    let server = Server::bind_with(config.backend(*backend), Some(hook)).expect("the server binds");
    let (sender, lens) = channel();
    (Served::Real(server.spawn(move |_| Lens(sender.clone())).expect("it starts")), lens)
}

/// Sends ten datagrams of 100 bytes as one, and the handler gets ten.
fn ten_are_ten(from: &Peer, to: SocketAddr, lens: &Receiver<usize>, what: &str) {
    let Peer::Real(socket) = from else { unreachable!("a real driver") };
    shardgram_sys::send_train(socket, to, None, 100, &[std::io::IoSlice::new(&[7; 1_000])]).expect("sent");
    let got: Vec<usize> = (0..10).map_while(|_| lens.recv_timeout(PATIENCE).ok()).collect();
    assert_eq!(got, [100; 10], "{what}");
}

const LISTEN: [&str; 4] = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"];

fn a_train_is_taken_apart_whatever_is_reported(mut bed: Bed) {
    for listen in LISTEN {
        let listen: SocketAddr = listen.parse().unwrap();
        let family = if listen.is_ipv6() { OF_IPV6 } else { OF_IPV4 };
        for reports in choices(&family) {
            let names: Vec<&str> = reports.iter().map(|(name, ..)| *name).collect();
            for tier in bed.tiers() {
                let mut config = Config::new().listen(listen).tier(tier).ecn(true).receive_timestamps(true);
                if tier == TierPolicy::Listener {
                    // A wildcard's own sockets are to receive, which have packet info.
                    config = config.max_local_addresses(0);
                }
                let (server, lens) = serve(&bed, config, hook(reports.clone()));
                let at = to_loopback(bed.address(&server));
                let peer = bed.peer(at);
                assert_eq!(bed.ask(&peer, at, b"hello"), b"hello");
                assert_eq!(lens.recv_timeout(PATIENCE), Ok(5));
                if tier == TierPolicy::Connected {
                    bed.until("it has a socket", |bed| bed.stats(&server).promoted == 1);
                }
                ten_are_ten(&peer, at, &lens, &format!("{listen} {tier:?} {names:?}"));
                let stats = bed.drain(server);
                assert_eq!((stats.trains_received, stats.dropped_control_cut), (1, 0), "{names:?}");
            }
        }
    }
}

fn endpoints_do_so_too(mut bed: Bed) {
    for (loopback, family) in [("127.0.0.1:0", OF_IPV4), ("[::1]:0", OF_IPV6)] {
        for reports in choices(&family) {
            let names: Vec<&str> = reports.iter().map(|(name, ..)| *name).collect();
            let (server, lens) = serve(&bed, Config::new(), hook(reports.clone()));
            let peer = bed.peer(loopback.parse().unwrap());
            bed.tell(&server, 0, peer.address());
            let (at, _) = bed.receive(&peer);
            ten_are_ten(&peer, at, &lens, &format!("an endpoint {names:?}"));
            bed.drain(server);
        }
    }
}

/// Nothing bounds extension headers, so they may leave no room. Where packet info says that all before it was there,
/// nothing is lost; else it might have been a train.
fn what_cannot_be_told_is_dropped_and_counted(mut bed: Bed) {
    let reports = vec![("IPV6_RECVDSTOPTS", libc::SOL_IPV6, libc::IPV6_RECVDSTOPTS, 1)];
    for listen in ["[::1]:0", "[::]:0"] {
        // The wildcard's own sockets are to receive.
        let config = Config::new().listen(listen.parse().unwrap()).max_local_addresses(0);
        let (server, lens) = serve(&bed, config, hook(reports.clone()));
        let at = to_loopback(bed.address(&server));
        let peer = bed.peer(at);
        let Peer::Real(socket) = &peer else { unreachable!("a real driver") };
        assert_eq!(bed.ask(&peer, at, b"hello"), b"hello");
        assert_eq!(lens.recv_timeout(PATIENCE), Ok(5));
        if let Err(error) = sockopt::set(socket, libc::SOL_IPV6, libc::IPV6_DSTOPTS, &DESTINATION_OPTIONS) {
            return crate::common::skip::record(&format!("destination options need root: {error}"));
        }
        bed.send(&peer, at, b"with options");
        // mio's sockets all have packet info.
        let told = listen.starts_with("[::]") || matches!(bed, Bed::Real(Backend::Mio));
        if told {
            assert_eq!(lens.recv_timeout(PATIENCE), Ok(12), "{listen}");
        } else {
            bed.until("it is dropped", |bed| bed.stats(&server).dropped_control_cut == 1);
        }
        // A new socket sends none of them.
        let other = bed.peer(at);
        assert_eq!(bed.ask(&other, at, b"and on"), b"and on");
        assert_eq!(lens.recv_timeout(PATIENCE), Ok(6), "{listen}");
        let stats = bed.drain(server);
        assert_eq!((stats.dropped_control_cut, stats.received), (u64::from(!told), 3), "{listen}");
    }
}

/// Trains that only a hook turned on are taken apart as well.
fn a_hook_may_turn_trains_on(mut bed: Bed) {
    let on: SocketHook = Arc::new(|socket, _| sockopt::set_int(socket, libc::SOL_UDP, libc::UDP_GRO, 1));
    for listen in LISTEN {
        let config = Config::new().listen(listen.parse().unwrap()).trains(false);
        let (server, lens) = serve(&bed, config, Arc::clone(&on));
        let at = to_loopback(bed.address(&server));
        let peer = bed.peer(at);
        ten_are_ten(&peer, at, &lens, listen);
        bed.drain(server);
    }
}

/// A train that came between the bind and the start of the shards is one too.
fn one_that_came_early_is_a_train(mut bed: Bed) {
    let Bed::Real(backend) = &bed else { unreachable!("a real driver") };
    let all = OF_SOCKETS.iter().chain(&OF_IPV4).copied().collect();
    let config = Config::new().listen("127.0.0.1:0".parse().unwrap()).backend(*backend);
    let server = Server::bind_with(config, Some(hook(all))).expect("the server binds");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let bytes = [std::io::IoSlice::new(&[7; 1_000])];
    shardgram_sys::send_train(&socket, server.local_addrs()[0], None, 100, &bytes).expect("sent");
    let (sender, lens) = channel();
    let server = Served::Real(server.spawn(move |_| Lens(sender.clone())).expect("it starts"));
    let got: Vec<usize> = (0..10).map_while(|_| lens.recv_timeout(PATIENCE).ok()).collect();
    assert_eq!(got, [100; 10]);
    bed.drain(server);
}

on_real_drivers!(
    a_train_is_taken_apart_whatever_is_reported,
    endpoints_do_so_too,
    what_cannot_be_told_is_dropped_and_counted,
    a_hook_may_turn_trains_on,
    one_that_came_early_is_a_train,
);
