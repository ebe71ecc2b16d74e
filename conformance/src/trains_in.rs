//! Datagrams that the kernel received as one are handed over one by one, or at once to a handler that takes them
//! so, and go back as one.
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use shardgram_core::{Accept, Config, Context, Datagram, Handler, Meta, PeerId, ReceivedTrain, TierPolicy};

use super::{Bed, Echo, Sending, loopback, pattern, tiers, to_loopback};

/// What a handler was given.
#[derive(Debug)]
enum Given {
    One(Meta, Vec<u8>),
    Train(usize, usize, Vec<u8>),
}

/// Says what it is given and sends it back.
struct Telling<const WHOLE: bool>(Sender<Given>);

impl<const WHOLE: bool> Handler for Telling<WHOLE> {
    type Peer = ();
    type Timer = ();
    type Message = ();
    const WHOLE_TRAINS: bool = WHOLE;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let _ = self.0.send(Given::One(datagram.meta(), datagram.to_vec()));
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room");
    }

    fn on_train(&mut self, cx: &mut Context<'_, Self>, _: PeerId, train: ReceivedTrain<'_>) {
        let _ = self.0.send(Given::Train(train.segment(), train.datagrams(), train.to_vec()));
        cx.io.reply_train(train).expect("room");
    }
}

fn send_train<B: Bed>(bed: &mut B, peer: &B::Peer, to: SocketAddr, bytes: &[u8], segment: u16) {
    bed.send_as(peer, to, Sending { segment: Some(segment), ..Sending::of(bytes) });
}

/// However slow the machine is: the rest of a train that takes longer than a turn may waits and is copied.
const TAKES_ITS_TIME_US: u32 = 1_000_000;

fn unhurried() -> Config {
    loopback().turn_time_us(TAKES_ITS_TIME_US)
}

/// Tiers and addresses, specific and wildcard.
fn configs<B: Bed>(bed: &B) -> Vec<Config> {
    let at = |address: &str| Config::new().listen(address.parse().unwrap()).turn_time_us(TAKES_ITS_TIME_US);
    let of = |tier| ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"].map(|place| at(place).tier(tier));
    tiers(bed).into_iter().flat_map(of).collect()
}

/// A server, and a peer it knows, with a socket of its own in the tier where that is so.
fn begin<const WHOLE: bool, B: Bed>(
    bed: &mut B,
    config: Config,
) -> (B::Server<()>, SocketAddr, B::Peer, Receiver<Given>) {
    let (sender, given) = channel();
    let connected = config.settings().tier == TierPolicy::Connected;
    let server = bed.serve(config, move |_| Telling::<WHOLE>(sender.clone()));
    let at = to_loopback(bed.address(&server));
    let peer = bed.observer(at.ip());
    assert_eq!(bed.ask(&peer, at, b"hello"), b"hello");
    bed.hear(&given);
    if connected {
        bed.until("it is connected", |bed| bed.stats(&server).promoted == 1);
    }
    (server, at, peer, given)
}

pub fn they_come_one_by_one<B: Bed>(mut bed: B) {
    for config in configs(&bed) {
        let (server, at, peer, given) = begin::<false, B>(&mut bed, config);
        let bytes = pattern(20 * 1_200 + 7);
        send_train(&mut bed, &peer, at, &bytes, 1_200);
        for (number, part) in bytes.chunks(1_200).enumerate() {
            let Given::One(meta, got) = bed.hear(&given) else { panic!("a train") };
            assert_eq!((usize::from(meta.rest_of_train), &*got), (20 - number, part));
        }
        assert_eq!(bed.receive(&peer).1, bytes, "the answers leave as one");
        let stats = bed.drain(server);
        assert_eq!((stats.trains_received, stats.received, stats.copied_bytes), (1, 22, 0), "{stats:?}");
        assert_eq!((stats.trains_sent, stats.sent()), (1, 22), "{stats:?}");
    }
}

pub fn they_come_whole_to_who_wants_that<B: Bed>(mut bed: B) {
    for config in configs(&bed) {
        let (server, at, peer, given) = begin::<true, B>(&mut bed, config);
        for (len, segment) in [(20 * 1_200 + 7, 1_200), (64, 1), (65_000, 32_500), (65_000, 9_000)] {
            let bytes = pattern(len);
            send_train(&mut bed, &peer, at, &bytes, segment);
            let segment = usize::from(segment);
            match bed.hear(&given) {
                Given::Train(size, count, got) => {
                    assert_eq!((size, count), (segment, len.div_ceil(segment)));
                    assert_eq!(got, bytes);
                }
                Given::One(..) => panic!("one by one"),
            }
            assert_eq!(bed.receive(&peer).1, bytes);
        }
        // One alone is no train.
        assert_eq!(bed.ask(&peer, at, b"alone"), b"alone");
        assert!(matches!(bed.hear(&given), Given::One(_, bytes) if bytes == b"alone"));
        let stats = bed.drain(server);
        assert_eq!((stats.trains_received, stats.trains_sent, stats.copied_bytes), (4, 4, 0), "{stats:?}");
        assert_eq!((stats.delivered, stats.sent()), (stats.received, stats.received), "{stats:?}");
    }
}

/// The first datagram of a train makes the peer, which then gets the rest.
pub fn a_stranger_may_begin_with_one<B: Bed>(mut bed: B) {
    let (sender, given) = channel();
    let server = bed.serve(unhurried(), move |_| Telling::<true>(sender.clone()));
    let at = bed.address(&server);
    let peer = bed.observer(at.ip());
    let bytes = pattern(500);
    send_train(&mut bed, &peer, at, &bytes, 100);
    assert!(
        matches!(bed.hear(&given), Given::One(meta, got) if got == bytes[..100] && meta.rest_of_train == 4)
    );
    assert!(matches!(bed.hear(&given), Given::Train(100, 4, got) if got == bytes[100..]));
    assert_eq!(bed.receive(&peer).1, bytes[..100]);
    assert_eq!(bed.receive(&peer).1, bytes[100..]);
    let stats = bed.drain(server);
    assert_eq!((stats.peers_opened, stats.received), (1, 5));
}

/// Datagrams that are too long are cut, whether they come alone or not.
pub fn long_ones_are_cut_one_by_one<B: Bed>(mut bed: B) {
    let (server, at, peer, given) = begin::<true, B>(&mut bed, unhurried().max_datagram(1_000));
    let bytes = pattern(5 * 1_200 + 900);
    send_train(&mut bed, &peer, at, &bytes, 1_200);
    for part in bytes.chunks(1_200) {
        let Given::One(meta, got) = bed.hear(&given) else { panic!("a train") };
        assert_eq!(got, part[..part.len().min(1_000)]);
        assert_eq!(meta.truncated_from, (part.len() > 1_000).then_some(part.len()));
    }
    bed.until("all are answered", |bed| bed.stats(&server).sent() == 7);
    let stats = bed.drain(server);
    assert_eq!((stats.truncated, stats.trains_received), (5, 1), "{stats:?}");
}

pub fn they_can_be_turned_off<B: Bed>(mut bed: B) {
    let (server, at, peer, given) = begin::<true, B>(&mut bed, unhurried().trains(false));
    send_train(&mut bed, &peer, at, &pattern(500), 100);
    for part in pattern(500).chunks(100) {
        assert!(matches!(bed.hear(&given), Given::One(_, got) if got == part));
    }
    bed.until("all are answered", |bed| bed.stats(&server).sent() == 6);
    let stats = bed.drain(server);
    assert_eq!((stats.trains_received, stats.trains_sent), (0, 0), "{stats:?}");
}

/// With a budget of one, several turns are spent on datagrams that came at once.
pub fn long_ones_outlast_a_budget_of_one<B: Bed>(mut bed: B) {
    let config = unhurried().max_datagram(1_000).turn_budget(1).trains(true);
    let (server, at, peer, given) = begin::<false, B>(&mut bed, config);
    let bytes = pattern(10 * 1_001);
    for _ in 0..3 {
        send_train(&mut bed, &peer, at, &bytes, 1_001);
    }
    for round in 0..3 {
        for part in bytes.chunks(1_001) {
            let Given::One(_, got) = bed.hear(&given) else { panic!("a train") };
            assert_eq!(got, part[..1_000], "round {round}");
        }
    }
    let stats = bed.drain(server);
    assert_eq!((stats.truncated, stats.sent()), (30, 31), "{stats:?}");
}

pub fn they_say_where_they_were_sent_to<B: Bed>(mut bed: B) {
    let wildcards = ["0.0.0.0:0", "[::]:0"].map(|at| at.parse().unwrap());
    let config = wildcards.iter().fold(Config::new(), |config, at| config.listen(*at));
    let server = bed.serve(config, |_| Echo);
    let addresses = bed.addresses(&server);
    for ip in bed.loopback_addresses() {
        let to = SocketAddr::new(ip, addresses[usize::from(ip.is_ipv6())].port());
        let peer = bed.peer(to);
        send_train(&mut bed, &peer, to, &pattern(3_000), 1_000);
        for part in pattern(3_000).chunks(1_000) {
            assert_eq!(bed.receive(&peer), (to, part.to_vec()));
        }
    }
    bed.drain(server);
}
