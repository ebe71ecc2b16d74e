//! Hundreds of peers with sockets of their own go away at once, while the handler sends each of them something in every
//! turn: every send that fails is that peer's own failure, the server goes on, and the others miss nothing.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shardgram::{Accept, Config, Context, Datagram, Handler, Origin, PeerError, PeerId, TierPolicy};

use crate::common::user::set_limit;
use crate::common::{Bed, PATIENCE};

/// Those that stay.
const OTHERS: usize = 20;
/// Turns in a row in which everybody is sent something.
const TURNS: u32 = 5;

/// What each peer is sent in a turn.
#[derive(Clone, Copy, Debug)]
enum Share {
    One,
    /// Two of different lengths, which make no train.
    Two,
    /// One to each, and another one to every other, as a server does that tells the state of things and then what is
    /// new.
    OneAndAHalf,
    Train,
    /// A train, and one behind it that does not belong to it.
    TrainAndOne,
}

impl Share {
    fn lengths(self, nth: usize) -> &'static [usize] {
        match (self, nth % 2) {
            (Self::One, _) | (Self::OneAndAHalf, 1) => &[100],
            (Self::Two, _) | (Self::OneAndAHalf, _) => &[100, 200],
            (Self::Train, _) => &[100; 6],
            (Self::TrainAndOne, _) => &[60, 60, 60, 100],
        }
    }
}

struct Fan {
    peers: Vec<PeerId>,
    share: Share,
    left: u32,
    errors: Arc<AtomicU64>,
}

impl Handler for Fan {
    type Peer = u32;
    type Timer = ();
    type Message = Share;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u32> {
        Accept::Connect(0)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, _: Datagram<'_>) {
        if !self.peers.contains(&peer) {
            self.peers.push(peer);
        }
        cx.io.send(peer, b"in").unwrap();
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, share: Share) {
        (self.share, self.left) = (share, TURNS);
        cx.io.set_timer(cx.io.now(), ()).unwrap();
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        for (nth, peer) in self.peers.iter().enumerate() {
            let Some(next) = cx.peers.get_mut(*peer) else { continue };
            for len in self.share.lengths(nth) {
                let mut bytes = vec![7; *len];
                bytes[..4].copy_from_slice(&next.to_be_bytes());
                cx.io.send(*peer, &bytes).unwrap();
                *next += 1;
            }
        }
        self.left -= 1;
        if self.left > 0 {
            cx.io.set_timer(cx.io.now(), ()).unwrap();
        }
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        assert_eq!(error, PeerError::Refused);
        self.errors.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client that is in.
fn client(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(b"hello").unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 2);
    socket
}

/// Everything that the turns of one message send, in order, comes.
fn expect(others: &[UdpSocket], nexts: &mut [u32], share: Share) {
    for ((nth, socket), next) in others.iter().enumerate().zip(nexts) {
        for len in (0..TURNS).flat_map(|_| share.lengths(nth)) {
            let mut bytes = [0; 1_000];
            let came = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{next} of {nth}: {error}"));
            let number = u32::from_be_bytes(*bytes.first_chunk().unwrap());
            assert_eq!((came, number), (*len, *next), "to {nth}, {share:?}");
            *next += 1;
        }
    }
}

fn vanish(bed: &mut Bed, gone: usize, config: &Config, share: Share) {
    set_limit(libc::RLIMIT_NOFILE, u64::MAX).unwrap();
    let errors = Arc::new(AtomicU64::new(0));
    let config = config.clone().listen("127.0.0.1:7000".parse().unwrap()).tier(TierPolicy::Connected);
    let heard = Arc::clone(&errors);
    let server = bed.serve(config.idle_timeout(None), move |_| Fan {
        peers: Vec::new(),
        share,
        left: 0,
        errors: Arc::clone(&heard),
    });
    let at = bed.address(&server);
    let others: Vec<_> = (0..OTHERS).map(|_| client(at)).collect();
    let mut nexts = [0; OTHERS];
    let vanishing: Vec<_> = (0..gone).map(|_| client(at)).collect();
    let all = (OTHERS + gone) as u64;
    bed.until("all have sockets of their own", |bed| bed.stats(&server).connected() == all);
    bed.tell(&server, 0, share);
    expect(&others, &mut nexts, share);
    drop(vanishing);
    for _ in 0..4 {
        bed.tell(&server, 0, share);
        expect(&others, &mut nexts, share);
    }
    let stats = bed.drain(server);
    let outcomes = stats.sent() + stats.send_failed() + stats.send_waiting;
    assert_eq!((stats.queued, stats.submitted), (stats.submitted, outcomes), "{share:?}: {stats:?}");
    assert_eq!((stats.send_failed(), stats.send_waiting), (stats.send_failed_refused, 0), "{stats:?}");
    assert!(stats.peer_errors >= gone as u64, "{share:?}: {stats:?}");
    let heard = errors.load(Ordering::Relaxed);
    assert!(heard >= gone as u64, "each of them was told: {heard}, {share:?}");
}

fn vanish_with_each(mut bed: Bed, gone: usize, config: &Config, shares: &[Share]) {
    shares.iter().for_each(|share| vanish(&mut bed, gone, config, *share));
}

const ALL: [Share; 4] = [Share::One, Share::Two, Share::OneAndAHalf, Share::Train];

fn three_hundred(bed: Bed) {
    vanish_with_each(bed, 300, &Config::new(), &ALL);
}

fn a_thousand(bed: Bed) {
    vanish_with_each(bed, 1_000, &Config::new(), &ALL);
}

fn three_hundred_with_a_short_queue(bed: Bed) {
    vanish_with_each(bed, 300, &Config::new().submission_entries(4).completion_entries(8), &ALL);
}

fn three_hundred_without_trains(bed: Bed) {
    vanish_with_each(bed, 300, &Config::new().trains(false), &[Share::Two, Share::TrainAndOne]);
}

in_namespaces_with_uring!(
    three_hundred,
    a_thousand,
    three_hundred_with_a_short_queue,
    three_hundred_without_trains
);
