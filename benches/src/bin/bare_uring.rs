//! The bare ring loop as a program of its own, for `ratio`.
//!
//! `bare_uring ADDRESS CORE` prints `listening on ADDRESS`, and `received=N` when SIGTERM comes.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use shardgram_benches::pps::servers::{Mode, Task, Wait, bare_uring};
use shardgram_benches::pps::{system, tally::Tally};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().ok_or("an address is missing")?;
    let core: usize = args.next().ok_or("a core is missing")?.parse()?;
    system::pin(core);
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop))?;
    let socket = UdpSocket::bind(&address)?;
    // As large as shardgram's: with less, datagrams are dropped and there is less to do.
    system::set_buffers(&socket, 4 << 20)?;
    let task = Task {
        contender: "bare-uring".to_owned(),
        mode: Mode::Echo,
        core,
        wait: Wait::Block,
        no_trains: false,
        peers: 1,
        size: 64,
        tally: None,
    };
    let tally = bare_uring::serve(&socket, &task, Tally::open(None)?, &stop)?;
    let (received, visited) = tally.totals();
    println!("received={received} visited={visited}");
    Ok(())
}
