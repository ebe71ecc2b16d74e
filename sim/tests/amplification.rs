//! A datagram earns its sender's address the amplification limit once, whatever `accept` makes of it.

mod support;

use shardgram_core::{Accept, Context, Datagram, Handler, Origin, PeerId, SendError};
use shardgram_sim::{NodeId, Sim};
use support::{SECOND, addr, ip, listening, payloads};

/// Answers strangers with all that they may have, and then makes them one more path of its first peer, which answers
/// too.
struct Spendthrift {
    node: Option<PeerId>,
}

impl Handler for Spendthrift {
    type Peer = ();
    type Timer = ();
    type Message = PeerId;

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        let Some(peer) = self.node else { return Accept::Peer(()) };
        cx.io.answer(first.path(), &[1; 20]).expect("twice ten bytes");
        Accept::PathOf(peer)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if self.node.is_none() {
            self.node = Some(from);
            cx.io.reply(datagram, 10).expect("twice ten bytes are more");
            cx.io.send(from, &[2; 10]).expect("and that is all");
            for shard in 0..cx.io.shards() {
                let _ = cx.io.tell(shard, from);
            }
            return;
        }
        let path = datagram.path();
        assert_eq!(cx.io.reply(datagram, 1), Err(SendError::Unvalidated { left: 0 }));
        assert_eq!(cx.io.answer(path, &[3]), Err(SendError::Unvalidated { left: 0 }));
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: Origin, peer: PeerId) {
        self.node = Some(peer);
    }
}

fn server(sim: &mut Sim, shards: u16) -> NodeId<PeerId> {
    let config = listening("10.0.0.1:7").shards(shards).amplification_limit(2);
    sim.server(&[ip("10.0.0.1")], &config, |_| Spendthrift { node: None }).expect("starts")
}

#[test]
fn one_more_path_earns_what_accept_left() {
    // With one shard the path is joined at once, with several the datagram may have to be forwarded first.
    for shards in [1, 2, 3] {
        let mut sim = Sim::new(u64::from(shards));
        let server = server(&mut sim, shards);
        let clients: Vec<_> =
            (2..8).map(|n| sim.socket(addr(&format!("10.0.0.{n}:{}", n * 7_001)))).collect();
        for (n, client) in clients.iter().enumerate() {
            sim.send(*client, addr("10.0.0.1:7"), &[0; 10]);
            assert!(sim.run_until_quiet(SECOND));
            let got: Vec<usize> = payloads(&mut sim, *client).iter().map(Vec::len).collect();
            assert_eq!(got, if n == 0 { vec![10, 10] } else { vec![20] }, "client {n} of {shards} shards");
        }
        let stats = sim.stats(&server);
        assert_eq!((stats.restarts, stats.delivered, stats.unaccounted()), (0, 6, 0), "{stats}");
        assert_eq!(stats.forwarded_out > 0, shards > 1);
    }
}
