//! Sends every datagram back whence it came.
//!
//! `cargo run --release --example echo -- --listen 127.0.0.1:9000 --shards 2`

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use shardgram::{Accept, Backend, Config, Context, Datagram, Handler, PeerId, Server};
use shardgram::{Receivers, TierPolicy, WaitPolicy};

/// An echo server. SIGINT and SIGTERM drain it; a second one stops it at once.
#[derive(Parser)]
struct Options {
    /// Address to listen on, as 192.0.2.1:9000 or [fe80::1%eth0]:9000; may be given several times.
    #[arg(long, default_value = "127.0.0.1:9000", value_parser = shardgram::read_address)]
    listen: Vec<SocketAddr>,
    /// Shards, one thread each.
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// Cores to pin the shards to, as in 0,1.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// auto, uring or mio.
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Which shards receive: auto, per-shard, or one for each address listened on.
    #[arg(long, default_value = "auto")]
    receivers: Receivers,
    /// When peers get sockets of their own: listener (never), connected (at once) or adaptive (when they
    /// send much).
    #[arg(long, default_value = "listener")]
    tier: TierPolicy,
    /// Peers with sockets of their own, at most.
    #[arg(long, value_name = "N")]
    max_connected: Option<u32>,
    /// How shards wait: block, spin, or spin:50us to spin for so long and then block.
    #[arg(long, default_value = "block")]
    wait: WaitPolicy,
    /// Print counters every so many seconds.
    #[arg(long, value_name = "SECONDS")]
    stats: Option<u64>,
}

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
        let _ = cx.io.reply(datagram, len); // a refusal is counted
    }
}

/// Prints a line. Whoever reads may have gone away, which is no reason to stop serving.
fn say(line: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

fn complain(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}"); // as above
}

fn serve(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::new().shards(options.shards).cores(options.cores).backend(options.backend);
    let config = config.tier(options.tier).wait(options.wait).receivers(options.receivers);
    let config = match options.max_connected {
        Some(peers) => config.max_connected(peers),
        None => config,
    };
    let config = config.drain_on_signals(Some(Duration::from_secs(5)));
    let server = Server::bind(options.listen.into_iter().fold(config, Config::listen))?;
    let ready = server.ready_line();
    server.warnings().iter().for_each(|warning| complain(format!("warning: {warning}")));
    let handle = server.spawn(|_| Echo)?;
    let _ = say(ready);
    if let Some(seconds) = options.stats {
        let remote = handle.remote();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(seconds.max(1)));
                if say(remote.stats()).is_err() {
                    return; // nobody reads them any more
                }
            }
        });
    }
    let _ = say(handle.wait()?.total);
    Ok(())
}

fn main() -> ExitCode {
    let result = match Options::try_parse() {
        Ok(options) => serve(options),
        Err(help) if !help.use_stderr() => help.exit(),
        Err(wrong) => {
            let text = wrong.to_string();
            let cause = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Err(format!("{cause}; --help lists the options").into())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format!("echo: {error}"));
            ExitCode::from(2)
        }
    }
}
