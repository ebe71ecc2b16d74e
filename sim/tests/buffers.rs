//! Receive buffers: what is replied from them keeps them until it has left, and every one comes back.

mod support;

use shardgram_core::{Accept, Context, Datagram, Handler, PeerId};
use shardgram_sim::{LinkConfig, Sim};
use support::{SECOND, addr, echo, ip, listening, payloads};

#[test]
fn arrivals_wait_when_the_buffers_run_out() {
    let mut sim = Sim::new(1);
    let server = echo(&mut sim, &listening("10.0.0.1:7").receive_buffers(8));
    let client = sim.socket(addr("10.0.0.2:5000"));
    for i in 0..100_u8 {
        sim.send(client, addr("10.0.0.1:7"), &[i; 33]);
    }
    let mut most = 0;
    while sim.counts().delivered < 200 && sim.step() {
        most = most.max(sim.buffers_out(&server));
    }
    assert_eq!(most, 8);
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(sim.buffers_out(&server), 0);
    assert_eq!(payloads(&mut sim, client), (0..100_u8).map(|i| vec![i; 33]).collect::<Vec<_>>());
    let stats = sim.stats(&server);
    assert_eq!(stats.buffers_exhausted, 12, "all but the last four of thirteen turns of eight");
    assert_eq!((stats.delivered, stats.sent()), (100, 100));
}

#[test]
fn a_train_keeps_its_buffer_until_its_last_reply_left() {
    let mut sim = Sim::new(2);
    sim.link(LinkConfig::new().trains(true));
    let server = echo(&mut sim, &listening("10.0.0.1:7").receive_buffers(8));
    let client = sim.socket(addr("10.0.0.2:5000"));
    for train in 0..20_u8 {
        let bytes: Vec<u8> = (0..60).map(|i| train ^ i).collect();
        sim.send_train(client, addr("10.0.0.1:7"), &bytes, 7);
    }
    assert!(sim.run_until_quiet(SECOND));
    let got = payloads(&mut sim, client);
    assert_eq!(got.len(), 20 * 9);
    for (train, parts) in got.chunks(9).enumerate() {
        assert!(parts.concat().iter().enumerate().all(|(i, b)| *b == train as u8 ^ i as u8));
    }
    assert_eq!(sim.buffers_out(&server), 0);
}

/// Replies to some in place, copies to others, is silent to the rest, and closes peers as it goes.
struct Moody(u32);

impl Handler for Moody {
    type Peer = ();
    type Timer = ();
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        match first.first() {
            Some(0..=40) => Accept::Reply(1),
            Some(41..=50) => Accept::Drop("moody"),
            _ => Accept::Peer(()),
        }
    }
    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        self.0 += 1;
        match self.0 % 4 {
            0 => {}
            1 => {
                let _ = cx.io.send(from, &datagram);
            }
            2 => {
                let _ = cx.io.reply(datagram, 1);
                cx.io.close(from);
            }
            _ => {
                let _ = cx.io.reply(datagram, usize::MAX); // refused: the buffer is free at once
            }
        }
    }
}

#[test]
fn every_buffer_comes_back_whatever_the_handler_does() {
    let seed = 3;
    let mut sim = Sim::new(seed);
    sim.mis_steer(0.3).expect("in range");
    sim.link(LinkConfig::new().trains(true).loss(0.1).expect("in range"));
    // An outbox that small has the datagrams of a turn wait for the next.
    let config = listening("10.0.0.1:7").shards(2).receive_buffers(8).outbox_datagrams(5);
    let server = sim.server(&[ip("10.0.0.1")], &config, |_| Moody(0)).expect("starts");
    for i in 0..2000_u32 {
        let from = addr(&format!("10.0.2.{}:{}", i % 50, 5000 + i % 7));
        sim.send_from(from, addr("10.0.0.1:7"), &[i as u8, 1, 2]);
    }
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(sim.buffers_out(&server), 0, "seed {seed}");
    let stats = sim.stats(&server);
    assert!(stats.send_refused_full == 0 && stats.delivered > 0, "{stats:?}");
    assert_eq!(stats.unaccounted(), 0, "seed {seed}");
}
