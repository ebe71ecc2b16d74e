//! Says hello to a host that is known by its name, and prints what comes back.
//!
//! `cargo run --release --example dial -- localhost:9000`, with the echo example listening there.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use clap::Parser;
use shardgram::{Accept, Config, Context, Datagram, Dial, Handler, Interface, PeerError, PeerId, Server};
use shardgram::{Endpoint, HostError};

/// Says hello to a host and prints the first answer. Each address of a name is tried in turn.
#[derive(Parser)]
struct Options {
    /// Whom to dial: a name or an address, and a port, as in example.net:9000 or [::1]:9000.
    host: String,
    /// How long each address is tried, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    try_for_ms: u64,
    /// The interface to leave by, whatever the routes say.
    #[arg(long)]
    interface: Option<String>,
}

struct Client {
    dial: Dial,
    done: Sender<Result<String, String>>,
}

impl Handler for Client {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        if let Err(error) = cx.dial(self.dial.clone(), ()) {
            let _ = self.done.send(Err(error.to_string()));
        }
    }

    fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, remote: SocketAddr) {
        let _ = writeln!(std::io::stdout(), "trying {remote}"); // whoever reads may have gone away
        let _ = cx.io.send(peer, b"hello"); // a protocol of one's own would send it again until it is answered
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let text = String::from_utf8_lossy(&datagram).into_owned();
        let _ = self.done.send(Ok(format!("{} answers: {text}", datagram.path().remote)));
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        let _ = self.done.send(Err(error.to_string()));
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done // there are no listeners, so nobody comes unasked
    }
}

fn dial(options: &Options) -> Result<String, Box<dyn std::error::Error>> {
    let mut dial: Dial = options.host.parse().map_err(|error: HostError| error.to_string())?;
    dial = dial.try_for(Duration::from_millis(options.try_for_ms));
    if let Some(name) = &options.interface {
        let any = Endpoint::bound(([0, 0, 0, 0], 0).into());
        dial = dial.endpoint(any.on_interface(Interface::named(name)?));
    }
    let (done, outcome) = channel();
    let server = Server::bind(Config::new())?;
    let handle = server.spawn(move |_| Client { dial: dial.clone(), done: done.clone() })?;
    let outcome = outcome.recv()?;
    handle.drain(Duration::from_secs(1))?;
    Ok(outcome?)
}

fn main() -> ExitCode {
    match dial(&Options::parse()) {
        Ok(answer) => {
            let _ = writeln!(std::io::stdout(), "{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "dial: {error}");
            ExitCode::FAILURE
        }
    }
}
