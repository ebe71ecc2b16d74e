//! The contenders, one file each, as servers.
//!
//! All do the same with a datagram: look at its bytes once, count it, and then, as an **echo**, send it back; as a
//! **sink**, nothing more; and in a **fan-out**, send it to all that registered, if it is to be published.
//! They differ only in how datagrams get in and out, and each takes batches, and trains, as far as its library
//! offers them.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::system;
use super::tally::Tally;

#[allow(unsafe_code, reason = "a bare ring is nothing but memory shared with the kernel")]
pub mod bare_uring;
#[cfg(feature = "rivals")]
mod compio;
#[cfg(feature = "rivals")]
#[allow(unsafe_code, reason = "glommio takes a socket with options by its descriptor only")]
mod glommio;
#[cfg(feature = "rivals")]
mod mio;
#[cfg(feature = "rivals")]
mod monoio;
#[cfg(feature = "rivals")]
mod quinn_udp;
mod recvfrom;
mod recvmmsg;
mod shardgram;
#[cfg(feature = "rivals")]
mod tokio;
#[cfg(feature = "rivals")]
mod tokio_quinn_udp;

/// What a server does with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Sends it back.
    Echo,
    /// Counts it.
    Sink,
    /// Sends it to everybody, if it is to be published.
    Fanout,
}

/// How a server, or the client, waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// It sleeps in the kernel.
    Block,
    /// It looks again and again.
    Spin,
}

/// The client's word for each variant, as on the command line.
macro_rules! named {
    ($($type:ident)*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
            }
        }
    )*};
}
named!(Mode Wait);

/// What a server is told when its process starts.
#[derive(Args, Clone, Debug)]
pub struct Task {
    /// Which one.
    #[arg(long)]
    pub contender: String,
    /// What it does with a datagram.
    #[arg(long, default_value = "echo")]
    pub mode: Mode,
    /// Its core.
    #[arg(long, default_value_t = 1)]
    pub core: usize,
    /// How it waits.
    #[arg(long, default_value = "block")]
    pub wait: Wait,
    /// Take and send no trains, where that is for the server to say.
    #[arg(long)]
    pub no_trains: bool,
    /// How many peers there will be.
    #[arg(long, default_value_t = 1)]
    pub peers: u32,
    /// Bytes of the largest datagram.
    #[arg(long, default_value_t = 64)]
    pub size: usize,
    /// Where to count what is received.
    #[arg(long)]
    pub tally: Option<PathBuf>,
}

/// Serves until the process is killed.
///
/// # Errors
/// If there is no such contender in this program, and what the contender meets.
pub fn serve(task: &Task) -> Result<(), Box<dyn Error>> {
    system::end_with_parent();
    if !system::pin(task.core) {
        eprintln!("there is no core {}: not pinned", task.core);
    }
    system::raise_descriptors();
    let tally = Tally::open(task.tally.as_deref())?;
    match task.contender.as_str() {
        name if name.starts_with("shardgram-") => shardgram::serve(task, tally),
        "bare-uring" | bare_uring::PATIENT => {
            bare_uring::serve(&system::listener()?, task, tally, &AtomicBool::new(false)).map(drop)
        }
        "recvmmsg" => recvmmsg::serve(task, tally),
        "recvfrom" => recvfrom::serve(task, tally),
        name => serve_rival(name, task, tally),
    }
}

#[cfg(feature = "rivals")]
fn serve_rival(name: &str, task: &Task, tally: Tally) -> Result<(), Box<dyn Error>> {
    match name {
        "quinn-udp" => quinn_udp::serve(task, tally),
        "tokio-quinn-udp" => tokio_quinn_udp::serve(task, tally),
        "tokio" => tokio::serve(task, tally),
        "mio" => mio::serve(task, tally),
        "monoio" => monoio::serve(task, tally),
        "glommio" => glommio::serve(task, tally),
        "compio" => compio::serve(task, tally),
        _ => Err(format!("no contender is called {name}").into()),
    }
}

#[cfg(not(feature = "rivals"))]
#[allow(clippy::needless_pass_by_value, reason = "the same signature as with rivals")]
fn serve_rival(name: &str, _: &Task, _: Tally) -> Result<(), Box<dyn Error>> {
    Err(format!("{name} is no contender of this program: was it built with --features rivals?").into())
}

/// Tells the client where the server listens, and that it is ready.
fn announce(address: SocketAddr) {
    println!("listening on {address}");
    let _ = std::io::stdout().flush();
}
