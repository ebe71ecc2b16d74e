//! A peer gets a socket of its own and loses it again: it is the same peer on the same path all the time, what it sends
//! comes in order and is all there, and the counters say how many there are.
use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Bed, both_families, loopback};
use shardgram_core::{
    Accept, Config, Context, Datagram, Handler, Origin, Path, PeerId, Snapshot, Tier, TierPolicy,
};

/// What the handler is told to do with a peer.
#[derive(Clone, Copy)]
enum Order {
    Promote(PeerId),
    Demote(PeerId),
    /// Both, as if it could not make up its mind; the last word is this.
    Waver(PeerId, Tier),
}

/// What it was given: whose, along which path, in which tier, and the bytes.
type Given = (PeerId, Path, Option<Tier>, Vec<u8>);

/// Sends everything back and tells of it. Strangers get a socket at once if they say so.
struct Subject(Sender<Given>);

impl Handler for Subject {
    type Peer = ();
    type Timer = ();
    /// To be acknowledged.
    type Message = (Order, Sender<()>);

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        if first.starts_with(b"connect") { Accept::Connect(()) } else { Accept::Peer(()) }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let _ = self.0.send((from, datagram.path(), cx.io.tier(from), datagram.to_vec()));
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, (order, done): Self::Message) {
        match order {
            Order::Promote(peer) => cx.io.promote(peer),
            Order::Demote(peer) => {
                cx.io.demote(peer);
                assert_eq!(cx.io.tier(peer), Some(Tier::Listener), "at once, for whoever asks");
            }
            Order::Waver(peer, last) => {
                for _ in 0..3 {
                    cx.io.promote(peer);
                    cx.io.demote(peer);
                }
                if last == Tier::Connected {
                    cx.io.promote(peer);
                }
            }
        }
        // A test may not wait for it.
        let _ = done.send(());
    }
}

struct Lab<B: Bed> {
    bed: B,
    server: B::Server<(Order, Sender<()>)>,
    given: Receiver<Given>,
}

impl<B: Bed> Lab<B> {
    fn new(mut bed: B, config: Config) -> Self {
        let (sender, given) = channel();
        let server = bed.serve(config, move |_| Subject(sender.clone()));
        Self { bed, server, given }
    }

    /// Writes to a listener, wants the answer, and says who that was for the handler, in which tier.
    fn ask(&mut self, client: &B::Peer, listener: usize, text: &[u8]) -> (PeerId, Option<Tier>) {
        let to = self.bed.addresses(&self.server)[listener];
        assert_eq!(self.bed.ask(client, to, text), text);
        let (peer, path, tier, bytes) = self.bed.hear(&self.given);
        assert_eq!((path.local, path.remote), (to, self.bed.address_of(client)), "the path is what it was");
        assert_eq!(bytes, text);
        (peer, tier)
    }

    /// Has it done, sooner or later.
    fn tell(&mut self, order: Order) -> Receiver<()> {
        let (sender, done) = channel();
        self.bed.tell(&self.server, 0, (order, sender));
        done
    }

    /// Has it done, before anything that is sent next.
    fn order(&mut self, order: Order) {
        let done = self.tell(order);
        self.bed.hear(&done);
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        let Self { bed, server, .. } = self;
        bed.until(what, |bed| holds(&bed.stats(server)));
    }
}

pub fn promoted_and_demoted_again_and_again<B: Bed>(bed: B) {
    const ROUNDS: u64 = 5;
    let mut lab = Lab::new(bed, both_families());
    for listener in 0..2_usize {
        let before = listener as u64 * ROUNDS;
        let at = lab.bed.addresses(&lab.server)[listener];
        let client = lab.bed.peer(at);
        let (peer, tier) = lab.ask(&client, listener, b"at first");
        assert_eq!(tier, Some(Tier::Listener));
        for round in before + 1..=before + ROUNDS {
            lab.order(Order::Promote(peer));
            lab.until("it is promoted", |stats| stats.promoted == round && stats.connected() == 1);
            for text in [&b"through it"[..], b"and again"] {
                assert_eq!(lab.ask(&client, listener, text), (peer, Some(Tier::Connected)));
            }
            lab.order(Order::Demote(peer));
            assert_eq!(lab.ask(&client, listener, b"while it goes"), (peer, Some(Tier::Listener)));
            lab.until("it is demoted", |stats| stats.demoted == round);
            assert_eq!(lab.ask(&client, listener, b"without it"), (peer, Some(Tier::Listener)));
        }
    }
    let stats = lab.bed.drain(lab.server);
    assert_eq!((stats.promoted, stats.demoted, stats.connected()), (2 * ROUNDS, 2 * ROUNDS, 0));
    assert_eq!((stats.received, stats.sent(), stats.redispatched), (42, 42, 0), "{stats:?}");
    assert_eq!((stats.promotions_refused, stats.promotions_failed, stats.handovers_timed_out), (0, 0, 0));
}

pub fn accepted_with_one<B: Bed>(bed: B) {
    let mut lab = Lab::new(bed, loopback());
    let at = lab.bed.address(&lab.server);
    let client = lab.bed.peer(at);
    let (peer, tier) = lab.ask(&client, 0, b"connect");
    assert_eq!(tier, Some(Tier::Listener), "the first datagram came by the listener");
    lab.until("it is promoted", |stats| stats.promoted == 1);
    assert_eq!(lab.ask(&client, 0, b"more"), (peer, Some(Tier::Connected)));
    let stats = lab.bed.drain(lab.server);
    assert_eq!((stats.promoted, stats.peers_opened), (1, 1));
}

pub fn by_the_policy_as_soon_as_they_are_made<B: Bed>(bed: B) {
    let mut lab = Lab::new(bed, loopback().tier(TierPolicy::Connected));
    let at = lab.bed.address(&lab.server);
    let clients: Vec<_> = (0..20).map(|_| lab.bed.peer(at)).collect();
    for client in &clients {
        lab.ask(client, 0, b"in");
    }
    lab.until("all are promoted", |stats| stats.promoted == 20);
    for client in &clients {
        assert_eq!(lab.ask(client, 0, b"through it").1, Some(Tier::Connected));
    }
    lab.bed.drain(lab.server);
}

pub fn the_last_word_counts<B: Bed>(bed: B) {
    let mut lab = Lab::new(bed, loopback());
    let at = lab.bed.address(&lab.server);
    let client = lab.bed.peer(at);
    let (peer, _) = lab.ask(&client, 0, b"in");
    lab.order(Order::Waver(peer, Tier::Listener));
    assert_eq!(lab.ask(&client, 0, b"demoted last").1, Some(Tier::Listener));
    lab.order(Order::Waver(peer, Tier::Connected));
    lab.until("it is promoted", |stats| stats.connected() == 1);
    assert_eq!(lab.ask(&client, 0, b"promoted last").1, Some(Tier::Connected));
    let stats = lab.bed.drain(lab.server);
    assert_eq!((stats.promotions_failed, stats.connected()), (0, 0), "{stats:?}");
}

/// What it sends while it is promoted comes in order, and while it is demoted too nothing is lost.
pub fn nothing_is_lost_on_the_way<B: Bed>(bed: B) {
    const EACH: u32 = 40;
    let mut lab = Lab::new(bed, loopback());
    let at = lab.bed.address(&lab.server);
    let client = lab.bed.peer(at);
    let (peer, _) = lab.ask(&client, 0, b"in");
    let mut next = 0_u32;
    for round in 0..10 {
        let up = round % 2 == 0;
        for part in 0..3 {
            (next..next + EACH).for_each(|number| lab.bed.send(&client, at, &number.to_be_bytes()));
            if part == 0 {
                // In the midst of what is sent.
                drop(lab.tell(if up { Order::Promote(peer) } else { Order::Demote(peer) }));
            }
            let came = (0..EACH).map(|_| lab.bed.hear(&lab.given));
            let mut numbers: Vec<_> = came
                .map(|(from, _, _, bytes)| {
                    assert_eq!(from, peer);
                    u32::from_be_bytes(bytes.try_into().unwrap())
                })
                .collect();
            if !up {
                numbers.sort_unstable();
            }
            assert!(numbers.iter().copied().eq(next..next + EACH), "round {round}: {numbers:?}");
            (0..EACH).for_each(|_| assert_eq!(lab.bed.receive(&client).0, at));
            next += EACH;
        }
        let moves = round / 2 + 1;
        lab.until("it has moved", |stats| if up { stats.promoted == moves } else { stats.demoted == moves });
    }
    let stats = lab.bed.drain(lab.server);
    assert_eq!((stats.received, stats.peers_opened), (1 + u64::from(next), 1), "{stats:?}");
    assert_eq!((stats.kernel_dropped, stats.promotions_failed), (0, 0), "{stats:?}");
}
