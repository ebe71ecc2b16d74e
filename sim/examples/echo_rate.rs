//! How fast the simulation itself is: datagrams through an echo server, for each second of a real clock.
//!
//! ```text
//! cargo run --release -p shardgram-sim --example echo_rate
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use shardgram_core::{Accept, Config, Context, Datagram, Handler, PeerId};
use shardgram_sim::Sim;

struct Echo;

impl Handler for Echo {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    const ROUNDS: usize = 20_000;
    const CLIENTS: usize = 64;
    for (shards, len) in [(1, 64), (1, 1200), (4, 64)] {
        let mut sim = Sim::new(1);
        let target = "10.0.0.1:7".parse()?;
        let config = Config::new().listen(target).shards(shards);
        sim.server(&["10.0.0.1".parse()?], &config, |_| Echo)?;
        let mut clients = Vec::new();
        for i in 0..CLIENTS {
            clients.push(sim.socket(format!("10.0.1.{i}:5000").parse()?));
        }
        let payload = vec![7; len];
        let (start, mut echoed) = (Instant::now(), 0_u64);
        for _ in 0..ROUNDS {
            for client in &clients {
                sim.send(*client, target, &payload);
            }
            sim.run_for(Duration::from_millis(1));
            for client in &clients {
                echoed += u64::from(sim.receive(*client).is_some());
            }
        }
        let rate = sim.counts().delivered as f64 / start.elapsed().as_secs_f64();
        println!("{shards} shards, {len} bytes: {echoed} echoed, {:.2} million datagrams/s", rate / 1e6);
    }
    Ok(())
}
