//! What becomes of datagrams that are longer than the path carries is as the configuration says, in both tiers. Behind a
//! router the path carries less than the interface.
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use shardgram::{Accept, Config, Context, Datagram, Handler, PathMtu, PeerError, PeerId, TierPolicy};

use super::peer_errors::{HERE, Routed};
use crate::common::{Bed, PATIENCE, Served};

/// MTUs of the interface and of the path.
const NEAR: usize = 1_500;
const FAR: usize = 1_400;

/// How long something is waited for that should not come.
const PAUSE: Duration = Duration::from_millis(300);

/// Sends datagrams as long as each two bytes say that it receives; tells of errors.
struct Lengths(Sender<PeerError>);

impl Handler for Lengths {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        for len in datagram.chunks_exact(2) {
            cx.io.send(from, &vec![7; usize::from(u16::from_be_bytes([len[0], len[1]]))]).unwrap();
        }
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        let _ = self.0.send(error);
    }
}

/// A server with one client behind the router.
struct Talk {
    bed: Bed,
    server: Served<()>,
    heard: Receiver<PeerError>,
    client: UdpSocket,
    tier: TierPolicy,
    at: SocketAddr,
}

impl Talk {
    fn begin(backend: shardgram::Backend, net: &Routed, ip: &str, tier: TierPolicy, mode: PathMtu) -> Self {
        let mut bed = Bed::Real(backend);
        let at = SocketAddr::new(ip.parse().unwrap(), 7_000);
        let (sender, heard) = channel();
        let config = Config::new().listen(at).tier(tier).path_mtu(mode);
        let server = bed.serve(config, move |_| Lengths(sender.clone()));
        let far: IpAddr = if at.is_ipv4() { "10.88.0.2" } else { "fd88::2" }.parse().unwrap();
        let client = net.far.inside(|| UdpSocket::bind((far, 0)).unwrap());
        let mut talk = Self { bed, server, heard, client, tier, at };
        assert_eq!(talk.ask(&[9], PATIENCE), [9]);
        if tier == TierPolicy::Connected {
            let Self { bed, server, .. } = &mut talk;
            bed.until("it is connected", |bed| bed.stats(server).promoted == 1);
        }
        talk
    }

    /// A payload that makes a packet of so many bytes.
    fn payload(&self, packet: usize) -> usize {
        packet - if self.at.is_ipv4() { 28 } else { 48 }
    }

    /// Asks for datagrams of these lengths and says which come.
    fn ask(&self, lengths: &[usize], within: Duration) -> Vec<usize> {
        let list: Vec<u8> = lengths.iter().flat_map(|len| (*len as u16).to_be_bytes()).collect();
        self.client.send_to(&list, self.at).unwrap();
        self.client.set_read_timeout(Some(within)).unwrap();
        let receive = || self.client.recv(&mut [0; 70_000]).ok();
        std::iter::from_fn(receive).take(lengths.len()).collect()
    }

    /// Packets of that length come, in a train as well.
    fn carries(&self, packet: usize) {
        let len = self.payload(packet);
        assert_eq!(self.ask(&[len], PATIENCE), [len], "{packet} bytes");
        assert_eq!(self.ask(&[len; 3], PATIENCE), [len; 3], "{packet} bytes, three of them");
    }

    /// They are lost on the way.
    fn loses(&self, packet: usize) {
        assert_eq!(self.ask(&[self.payload(packet)], PAUSE), [0; 0], "{packet} bytes");
    }

    /// They do not leave, and the handler is told, with the MTU where its peer has a socket of its own.
    fn refuses(&self, packet: usize, mtu: usize) {
        let len = self.payload(packet);
        for lengths in [&[len][..], &[len; 3]] {
            self.client
                .send_to(
                    &lengths.iter().flat_map(|len| (*len as u16).to_be_bytes()).collect::<Vec<_>>(),
                    self.at,
                )
                .unwrap();
            for _ in lengths {
                let own = self.tier == TierPolicy::Connected;
                assert_eq!(self.hears(), PeerError::TooLong { mtu: own.then_some(mtu) }, "{packet} bytes");
            }
        }
    }

    fn hears(&self) -> PeerError {
        self.heard.recv_timeout(PATIENCE).expect("the handler hears of it")
    }

    /// A router said that something was too long, which is told of where the peer has a socket of its own.
    fn hears_the_router(&self) {
        if self.tier == TierPolicy::Connected {
            assert_eq!(self.hears(), PeerError::TooLong { mtu: Some(FAR) });
        }
    }

    fn end(mut self, too_long: u64) {
        assert_eq!(self.heard.try_recv().ok(), None);
        let stats = self.bed.drain(self.server);
        assert_eq!((stats.send_failed(), stats.send_failed_too_long), (too_long, too_long), "{stats:?}");
    }
}

/// Each address in each tier, in networks that have learned nothing yet.
fn everywhere(bed: &Bed, mode: PathMtu, check: impl Fn(Talk)) {
    let Bed::Real(backend) = *bed else { unreachable!("a real driver") };
    let own = backend == shardgram::Backend::Uring;
    for tier in [TierPolicy::Listener, TierPolicy::Connected].into_iter().take(1 + usize::from(own)) {
        let net = Routed::new();
        net.router.run(&format!("ip link set r1 mtu {FAR}"));
        net.far.run(&format!("ip link set f0 mtu {FAR}"));
        for ip in HERE {
            check(Talk::begin(backend, &net, ip, tier, mode));
        }
        crate::common::namespace::run("ip link del v0");
    }
}

fn by_default_the_kernel_learns_and_fragments(bed: Bed) {
    everywhere(&bed, PathMtu::System, |talk| {
        talk.loses(FAR + 1);
        talk.hears_the_router();
        for packet in [FAR, FAR + 1, NEAR + 1, 9_000] {
            talk.carries(packet);
        }
        talk.end(0);
    });
}

fn refused_as_soon_as_it_is_learned(bed: Bed) {
    everywhere(&bed, PathMtu::Refuse, |talk| {
        talk.refuses(NEAR + 1, NEAR);
        talk.loses(NEAR);
        talk.hears_the_router();
        for packet in [FAR + 1, NEAR, 9_000] {
            talk.refuses(packet, FAR);
        }
        talk.carries(FAR);
        talk.end(4 * 4);
    });
}

fn probes_are_lost_and_never_refused(bed: Bed) {
    everywhere(&bed, PathMtu::Probe, |talk| {
        talk.loses(FAR + 1);
        talk.hears_the_router();
        for packet in [NEAR, FAR + 1] {
            // Nothing that was learned keeps it from leaving.
            talk.loses(packet);
            talk.hears_the_router();
        }
        talk.refuses(NEAR + 1, FAR);
        talk.carries(FAR);
        talk.end(4);
    });
}

fn routers_may_fragment(bed: Bed) {
    everywhere(&bed, PathMtu::Fragment, |talk| {
        if talk.at.is_ipv6() {
            // RFC 8200 section 5: only the sender fragments, so it has to learn.
            talk.loses(FAR + 1);
            talk.hears_the_router();
        }
        for packet in [FAR, FAR + 1, NEAR, NEAR + 1, 9_000] {
            talk.carries(packet);
        }
        talk.end(0);
    });
}

in_namespaces!(
    by_default_the_kernel_learns_and_fragments,
    refused_as_soon_as_it_is_learned,
    probes_are_lost_and_never_refused,
    routers_may_fragment,
);
