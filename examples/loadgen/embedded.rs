//! The server that runs where no target was named.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use shardgram::{Config, Handle, Server, Snapshot};

use super::cpu::Threads;
use super::link::Order;
use super::options::Options;
use super::pattern::Pattern;
use super::server::Responder;
use super::units;

const DRAIN: Duration = Duration::from_secs(1);

/// Where flows are replaced, the old ones must not fill its peer table.
fn idle_timeout(options: &Options) -> Duration {
    2 * options.timeout.max(Duration::from_secs(1))
}

fn peers(options: &Options) -> u32 {
    let gone = options.new_flows.unwrap_or(0).saturating_mul(2 * idle_timeout(options).as_secs());
    options.flows.saturating_add(gone.min(1 << 20) as u32)
}

/// Every datagram of a turn may go to every subscriber, and these send nothing that would keep them.
fn for_fan_out(config: Config, subscribers: u32, size: u32) -> Config {
    let most = (8 * subscribers).clamp(16_384, 1 << 20);
    let budget = (most / subscribers.max(1)).clamp(1, 64);
    config
        .idle_timeout(None)
        .outbox_datagrams(most)
        .outbox_bytes((128 * size).max(4 << 20))
        .turn_budget(budget)
        .event_budget(budget)
}

/// A server of this process. Dropping it stops it.
pub(crate) struct Embedded {
    handle: Handle<Order>,
    pub(crate) shards: u16,
    pub(crate) address: SocketAddr,
    /// Shards and backend.
    pub(crate) label: String,
    pub(crate) threads: Arc<Threads>,
}

impl Embedded {
    pub(crate) fn start(options: &Options) -> Result<Self, String> {
        let fault = |error| format!("the embedded server: {error}");
        let config = Config::new()
            .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .shards(options.server_shards)
            .cores(options.server_cores.iter().copied())
            .backend(options.server_backend)
            .trains(options.server_offload.uses_trains())
            .max_peers(peers(options).next_power_of_two().clamp(1_024, 1 << 20));
        let config = match options.pattern() {
            Pattern::FanOut { subscribers, .. } => {
                for_fan_out(config, subscribers, options.size.max() as u32)
            }
            _ if options.new_flows.is_some() => config.idle_timeout(Some(idle_timeout(options))),
            _ => config,
        };
        let server = Server::bind(config).map_err(fault)?;
        let address = server.local_addrs()[0];
        let shards = units::counted(options.server_shards.into(), "shard");
        let label = format!("{shards}, {}", server.backend());
        let (threads, pattern) = (Arc::new(Threads::default()), options.pattern());
        let of_shards = Arc::clone(&threads);
        let handle =
            server.spawn(move |info| Responder::new(Arc::clone(&of_shards), pattern, info)).map_err(fault)?;
        Ok(Self { handle, shards: options.server_shards, address, label, threads })
    }

    /// Tells a shard something; gives it back if its mailbox is full at the moment.
    pub(crate) fn tell(&self, shard: u16, order: Order) -> Result<(), Order> {
        self.handle.tell(shard, order).map_err(|full| full.0)
    }

    /// Drains it and gives its counters.
    pub(crate) fn end(self) -> Result<Snapshot, String> {
        let report = self.handle.drain(DRAIN).map_err(|error| format!("the embedded server: {error}"))?;
        Ok(report.total)
    }
}
