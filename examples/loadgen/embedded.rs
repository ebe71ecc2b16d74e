//! The echo server that runs where no target was named.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use shardgram::{Accept, Config, Context, Datagram, Handle, Handler, PeerId, Server, Snapshot};

use super::cpu::Threads;
use super::options::Options;
use super::units;

const DRAIN: Duration = Duration::from_secs(1);

struct Echo {
    threads: Arc<Threads>,
}

impl Handler for Echo {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn on_start(&mut self, _: &mut Context<'_, Self>) {
        self.threads.join();
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len); // a refusal is counted
    }
}

/// Where flows are replaced, the old ones must not fill its peer table.
fn idle_timeout(options: &Options) -> Duration {
    2 * options.timeout.max(Duration::from_secs(1))
}

fn peers(options: &Options) -> u32 {
    let gone = options.new_flows.unwrap_or(0).saturating_mul(2 * idle_timeout(options).as_secs());
    options.flows.saturating_add(gone.min(1 << 20) as u32)
}

/// A server of this process. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Embedded {
    handle: Handle<()>,
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
            .max_peers(peers(options).next_power_of_two().clamp(1_024, 1 << 20));
        let config = if options.new_flows.is_some() {
            config.idle_timeout(Some(idle_timeout(options)))
        } else {
            config
        };
        let server = Server::bind(config).map_err(fault)?;
        let address = server.local_addrs()[0];
        let shards = units::counted(options.server_shards.into(), "shard");
        let label = format!("{shards}, {}", server.backend());
        let threads = Arc::new(Threads::default());
        let of_shards = Arc::clone(&threads);
        let handle = server.spawn(move |_| Echo { threads: Arc::clone(&of_shards) }).map_err(fault)?;
        Ok(Self { handle, address, label, threads })
    }

    /// Drains it and gives its counters.
    pub(crate) fn end(self) -> Result<Snapshot, String> {
        let report = self.handle.drain(DRAIN).map_err(|error| format!("the embedded server: {error}"))?;
        Ok(report.total)
    }
}
