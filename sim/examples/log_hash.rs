//! Runs a busy simulation and a troubled one and prints the hash of all that happened, and nothing else.
//!
//! ```text
//! cargo run -p shardgram-sim --example log_hash -- 42
//! ```
//!
//! The number depends on the seed alone: not on the machine, the build or the day.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use shardgram_core::{
    Accept, Config, Context, Datagram, Endpoint, Handler, Origin, PathMtu, PeerId, ShardInfo, TierPolicy, Via,
};
use shardgram_sim::{Flood, LinkConfig, NatConfig, Sim};

/// Echoes, answers strangers with cookies now and then, and tells its neighbour of every tenth datagram.
struct Server {
    info: ShardInfo,
    seen: u64,
}

impl Handler for Server {
    type Peer = u64;
    type Timer = PeerId;
    type Message = u64;

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<u64> {
        match first.first() {
            None => Accept::Drop("empty"),
            Some(b'?') => {
                let cookie = cx.io.cookie(first.path());
                let _ = cx.io.answer(first.path(), &cookie);
                Accept::Done
            }
            Some(_) => Accept::Peer(0),
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        self.seen += 1;
        if let Some(count) = cx.peers.get_mut(from) {
            *count += 1;
        }
        if self.seen.is_multiple_of(10) {
            let _ = cx.io.tell((self.info.shard + 1) % self.info.shards, self.seen);
        }
        let at = cx.io.now() + Duration::from_millis(3);
        let _ = cx.io.set_peer_timer(from, at, from);
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len);
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        if let Some(count) = cx.peers.get(peer) {
            let count = count.to_be_bytes();
            let _ = cx.io.send(peer, &count);
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, message: u64) {
        let Ok(news) = cx.io.share(&message.to_be_bytes()) else { return };
        for (peer, _) in cx.peers.iter() {
            let _ = cx.io.send_shared(peer, news);
        }
    }
}

/// Sends bursts from two sockets.
struct Client {
    target: SocketAddr,
    bursts: u32,
}

impl Handler for Client {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Drop("not asked")
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        for _ in 0..2 {
            if let Ok(socket) = cx.io.endpoint(Endpoint::towards(self.target)) {
                let _ = cx.open(Via::Endpoint(socket), self.target, ());
            }
        }
        let _ = cx.io.set_timer(cx.io.now(), ());
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        self.bursts += 1;
        for (peer, ()) in cx.peers.iter() {
            for part in 0..5 {
                let _ = cx.io.send(peer, &[part; 100]);
            }
        }
        if self.bursts < 30 {
            let at = cx.io.now() + Duration::from_micros(700);
            let _ = cx.io.set_timer(at, ());
        }
    }
}

/// Everything else that can go wrong, all within a second.
fn trouble(seed: u64) -> Result<u64, Box<dyn Error>> {
    let mut sim = Sim::new(seed);
    let (server_ip, second_ip) = ("10.0.0.1".parse()?, "10.0.0.2".parse()?);
    let link = LinkConfig::new().jitter(Duration::from_micros(300))?.loss(0.02)?.duplication(0.02)?;
    sim.link(link.bandwidth(2_000_000, 100_000)?);
    sim.mis_steer(0.05)?;
    sim.refuse_sockets(0.01)?;
    let listen: SocketAddr = "0.0.0.0:7000".parse()?;
    let config = Config::new().listen(listen).shards(2).tier(TierPolicy::Connected).max_connected(8);
    let config = config.path_mtu(PathMtu::Refuse).send_socket_bytes(16 << 10);
    let make = |info| Server { info, seen: 0 };
    let server = sim.server(&[server_ip, second_ip], &config, make)?;
    let mut inside = Vec::new();
    for host in 1..=9 {
        let address = format!("10.0.1.{host}").parse()?;
        let target = SocketAddr::new(if host % 2 == 0 { server_ip } else { second_ip }, 7000);
        sim.server(&[address], &Config::new(), move |_| Client { target, bursts: 0 })?;
        inside.push(address);
    }
    let router = sim.nat(NatConfig::new("203.0.113.1".parse()?, &inside[..4]));
    let narrow = LinkConfig::new().router_mtu(Some(100))?;
    sim.link_between(server_ip, inside[7], narrow);
    let far = inside[8];
    let ms = Duration::from_millis;
    sim.at(ms(4), move |sim| sim.nat_rebind(router));
    sim.at(ms(6), move |sim| {
        let split = sim.partition_towards(&[server_ip], &[far]);
        sim.after(ms(5), move |sim| assert!(sim.heal(split)));
    });
    sim.uplink(server_ip, Some(200_000))?;
    sim.flood(Flood::new(SocketAddr::new(server_ip, 7000), 20_000)?.count(200));
    let node = server.clone();
    sim.at(ms(15), move |sim| assert!(sim.remove_address(&node, second_ip)));
    sim.run_for(ms(30));
    sim.forge_error(
        SocketAddr::new(server_ip, 7000),
        SocketAddr::new(far, 32_768),
        shardgram_core::PeerError::Refused,
    );
    sim.add_address(&server, second_ip)?;
    sim.run_for(ms(400));
    sim.drain(&server, ms(20));
    sim.run_until_quiet(Duration::from_secs(2));
    assert_eq!(sim.counts().unaccounted(), 0, "seed {seed}");
    let stats = sim.stats(&server);
    assert_eq!(stats.unaccounted(), 0, "seed {seed}");
    assert!(
        stats.promoted > 0 && stats.send_deferred > 0 && sim.counts().filtered > 0,
        "seed {seed}: {stats:?}"
    );
    Ok(sim.log_hash())
}

fn run(seed: u64) -> Result<u64, Box<dyn Error>> {
    let mut sim = Sim::new(seed);
    sim.mis_steer(0.1)?;
    sim.turn_cost(Duration::from_nanos(600), Duration::from_nanos(900))?;
    let link = LinkConfig::new()
        .jitter(Duration::from_micros(400))?
        .loss(0.03)?
        .duplication(0.02)?
        .reordering(0.01, Duration::from_millis(2))?;
    sim.link(link);
    let backbone = LinkConfig::new().trains(true).loss(0.01)?;
    sim.link_between("10.0.0.1".parse()?, "10.0.1.1".parse()?, backbone);
    sim.link_between("10.0.1.1".parse()?, "10.0.0.1".parse()?, backbone);

    let config = Config::new().listen("0.0.0.0:7000".parse()?).shards(3).receive_buffers(32);
    let make = |info| Server { info, seen: 0 };
    let server = sim.server(&["10.0.0.1".parse()?, "10.0.0.99".parse()?], &config, make)?;
    let target: SocketAddr = "10.0.0.1:7000".parse()?;
    for host in 1..=4 {
        let address = format!("10.0.1.{host}").parse()?;
        sim.server(&[address], &Config::new(), move |_| Client { target, bursts: 0 })?;
    }
    let raw = sim.socket("10.0.2.1:0".parse()?);
    for i in 0..100_u32 {
        let from = format!("10.9.{}.{}:{}", i % 3, i % 7, i).parse()?; // the first has port 0
        sim.send_from(from, target, b"?");
        sim.send(raw, "10.0.0.99:7000".parse()?, &i.to_be_bytes());
        sim.run_for(Duration::from_micros(150));
    }
    sim.run_for(Duration::from_millis(50));
    sim.drain(&server, Duration::from_millis(20));
    sim.run_until_quiet(Duration::from_secs(1));
    while let Some(received) = sim.receive(raw) {
        sim.send(raw, received.from, &received.bytes); // nobody is there any more
    }
    sim.run_until_quiet(Duration::from_secs(1));
    assert_eq!(sim.counts().unaccounted(), 0, "seed {seed}");
    assert_eq!(sim.stats(&server).unaccounted(), 0, "seed {seed}");
    Ok(sim.log_hash())
}

fn main() -> Result<(), Box<dyn Error>> {
    let seed = std::env::args().nth(1).ok_or("usage: log_hash SEED")?.parse()?;
    println!("{:016x}", run(seed)? ^ trouble(seed)?.rotate_left(32));
    Ok(())
}
