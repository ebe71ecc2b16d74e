//! Addresses and interfaces under a wildcard that go and come back while more is sent to them than is handled: no shard
//! is left with a socket of the group that was, so that afterwards each flow reaches the shard that owns it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::namespace::ip;
use crate::common::random::Random;
use crate::common::{Bed, Served};
use shardgram::{Accept, AcceptChoice, Config, Context, Datagram, Handler, PeerId, TierPolicy};

const PORT: u16 = 7000;
const AT: [&str; 2] = ["10.9.9.1", "fd99::1"];
/// What a probe says; anything else is load.
const PROBE: &[u8] = b"probe";
const PROBES: usize = 64;
/// Times each goes and returns, and the longest time that it is away.
const FLAPS: usize = 4;
const LONGEST_GAP_MS: u64 = 400;

/// Slower than what is sent, and answers probes.
struct Slow {
    /// Whether who sends load becomes a peer, and may have a socket of its own.
    admits: bool,
}

impl Slow {
    fn take_time() {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_micros(30) {}
    }
}

impl Handler for Slow {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        if &first[..] == PROBE {
            return Accept::Reply(PROBE.len());
        }
        Self::take_time();
        if self.admits { Accept::Peer(()) } else { Accept::Done }
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, _: PeerId, _: Datagram<'_>) {
        Self::take_time();
    }
}

/// Sends probes until all of one round are answered and none was forwarded.
fn until_none_is_forwarded(bed: &mut Bed, server: &Served<()>, to: SocketAddr) {
    bed.until("all reach the shards that own them", |bed| {
        let before = bed.stats(server).forwarded_out;
        let answered = |_: &usize| {
            let socket = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket.send_to(PROBE, to).is_ok() && socket.recv(&mut [0; 16]).is_ok()
        };
        let answered = (0..PROBES).filter(answered).count();
        answered == PROBES && bed.stats(server).forwarded_out == before
    });
}

/// Has `go` and `come` happen by turns while addresses are flooded, and looks at each in the end.
fn flap(mut bed: Bed, config: Config, admits: bool, go: impl Fn(), come: impl Fn()) {
    let mut random = Random::seeded();
    let config = [[0, 0, 0, 0].into(), IpAddr::from([0_u16; 8])]
        .into_iter()
        .fold(config, |config, any| config.listen(SocketAddr::new(any, PORT)));
    let config = config.shards(2).receive_socket_bytes(1 << 18);
    let server = bed.serve(config, move |_| Slow { admits });
    let at = AT.map(|ip| SocketAddr::new(ip.parse().unwrap(), PORT));
    come();
    std::thread::scope(|scope| {
        // Dropped, and the load over, also where the test fails.
        let going = Arc::new(());
        let (still, at) = (Arc::downgrade(&going), &at);
        scope.spawn(move || {
            let from = |to: &SocketAddr| if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
            let sockets: Vec<_> = at
                .iter()
                .flat_map(|to| (0..4).map(move |_| (UdpSocket::bind(from(to)).unwrap(), to)))
                .collect();
            while still.strong_count() > 0 {
                for (socket, to) in &sockets {
                    // There is no way to an address that has gone.
                    let _ = socket.send_to(b"load", to);
                }
            }
        });
        for _ in 0..FLAPS {
            sleep(Duration::from_millis(random.below(LONGEST_GAP_MS)));
            go();
            sleep(Duration::from_millis(random.below(LONGEST_GAP_MS)));
            come();
        }
        sleep(Duration::from_millis(random.below(LONGEST_GAP_MS)));
    });
    at.iter().for_each(|to| until_none_is_forwarded(&mut bed, &server, *to));
    bed.drain(server);
}

fn all_of_loopback(what: &str) {
    ip(&format!("addr {what} 10.9.9.1/24 dev lo"));
    ip(&format!("addr {what} fd99::1/64 dev lo{}", if what == "add" { " nodad" } else { "" }));
}

fn addresses(bed: Bed) {
    flap(bed, Config::new(), false, || all_of_loopback("del"), || all_of_loopback("add"));
}

fn an_interface_with_peers(bed: Bed) {
    let come = || {
        ip("link add v0 type veth peer name v1");
        ip("addr add 10.9.9.1/24 dev v0");
        ip("addr add fd99::1/64 dev v0 nodad");
        ip("link set v1 up");
        ip("link set v0 up");
    };
    flap(bed, Config::new(), true, || ip("link del v0"), come);
}

/// There peers' own sockets are in the port group too, and it is not over before they are closed.
fn peers_in_the_same_group(bed: Bed) {
    let config = Config::new().tier(TierPolicy::Connected).accept(AcceptChoice::SameGroup);
    flap(bed, config, true, || all_of_loopback("del"), || all_of_loopback("add"));
}

in_namespaces!(addresses, an_interface_with_peers);

mod same_group {
    use super::peers_in_the_same_group;
    in_namespaces_with_uring!(peers_in_the_same_group);
}
