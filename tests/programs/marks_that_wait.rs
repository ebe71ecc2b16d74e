//! What waits for room in a full socket leaves with the mark it was queued with.
use shardgram::{Accept, Config, Context, Datagram, Ecn, Handler, PeerId, Server, SocketHook, TierPolicy};

use crate::common::marks::{DSCP, Marker, hook_with, marked};
use crate::common::source::{HERE, THERE, number_of, numbered, roomy, slow_cable};
use crate::common::{Bed, Served};

const COUNT: u32 = 3_000;
const LEN: u32 = 500;

/// Runs of equal marks, so that there are trains, of different lengths.
fn mark_of(number: u32) -> Ecn {
    Ecn::from_bits((number / (1 + number / 64 % 5)) as u8)
}

/// Sends all at once.
struct Sower;

impl Handler for Sower {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if *datagram != *b"go" {
            return;
        }
        for number in 0..COUNT {
            cx.io.set_ecn(from, mark_of(number));
            cx.io.send(from, &numbered(number, LEN)).unwrap();
        }
        cx.io.set_ecn(from, Ecn::NotEct);
    }
}

fn serve(bed: &Bed, tier: TierPolicy, hook: SocketHook) -> Served<()> {
    let Bed::Real(backend) = bed else { unreachable!("a real driver") };
    let listen = |address: &str| std::net::SocketAddr::new(address.parse().unwrap(), 7_000);
    let config = Config::new().backend(*backend).tier(tier).send_socket_bytes(16 << 10);
    let config = config.listen(listen(HERE[0])).listen(listen(HERE[1]));
    let server = Server::bind_with(config, Some(hook)).expect("the server binds");
    Served::Real(server.spawn(|_| Sower).expect("it starts"))
}

fn it_is_marked_as_when_it_was_queued(mut bed: Bed) {
    let host = slow_cable(50_000);
    let own = matches!(bed, Bed::Real(shardgram::Backend::Uring));
    for tier in [TierPolicy::Listener, TierPolicy::Connected].into_iter().take(1 + usize::from(own)) {
        let server = serve(&bed, tier, hook_with(DSCP));
        for (promoted, (at, ip)) in (1..).zip(bed.addresses(&server).into_iter().zip(THERE)) {
            let client =
                Marker::of(host.inside(|| roomy((ip.parse::<std::net::IpAddr>().unwrap(), 0).into())));
            client.send(at, 0, None, b"hello");
            if tier == TierPolicy::Connected {
                bed.until("it is connected", |bed| bed.stats(&server).promoted == promoted);
            }
            client.send(at, 0, None, b"go");
            for number in 0..COUNT {
                let got = client.receive();
                assert_eq!(number_of(&got.bytes), number);
                assert_eq!(got.class, marked(DSCP, mark_of(number).bits()), "{number} to {ip} {tier}");
            }
        }
        let stats = bed.drain(server);
        assert!(stats.send_deferred > 2_000, "the test is of no use if no socket is full: {stats:?}");
        assert_eq!(stats.send_failed(), 0, "{stats:?}");
    }
}

in_namespaces!(it_is_marked_as_when_it_was_queued);
