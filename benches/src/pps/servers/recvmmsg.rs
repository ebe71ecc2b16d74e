//! Batches of datagrams: recvmmsg(2) takes what there is, sendmmsg(2) sends it back from where it lies.

use std::error::Error;
use std::io::ErrorKind;

use super::{Mode, Task, Wait, announce};
use crate::pps::mmsg::{Incoming, Spread};
use crate::pps::system;
use crate::pps::tally::Tally;
use crate::pps::wire::Kind;

const BATCH: usize = 64;

pub(super) fn serve(task: &Task, mut tally: Tally) -> Result<(), Box<dyn Error>> {
    let socket = system::listener()?;
    announce(socket.local_addr()?);
    let flags = match task.wait {
        Wait::Block => libc::MSG_WAITFORONE,
        Wait::Spin => libc::MSG_DONTWAIT,
    };
    // As much room as a datagram can take, so that none is cut; only what is written to is touched.
    let mut batch = Incoming::new(BATCH, 65_536 + 192, true, false);
    let mut peers = Spread::new();
    loop {
        let came = match batch.receive(&socket, BATCH, flags) {
            Ok(came) => came,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                std::hint::spin_loop();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        (0..came).for_each(|at| tally.saw(batch.bytes(at)));
        match task.mode {
            Mode::Sink => {}
            Mode::Echo => drop(batch.send_back(&socket, came)?),
            Mode::Fanout => fan_out(&socket, &mut batch, came, &mut peers)?,
        }
    }
}

/// Publishes what is to be published; all others register, and get their datagram back.
fn fan_out(
    socket: &std::net::UdpSocket,
    batch: &mut Incoming,
    came: usize,
    peers: &mut Spread,
) -> std::io::Result<()> {
    let mut registered = false;
    for at in 0..came {
        match Kind::of(batch.bytes(at)) {
            Kind::Publish => drop(peers.send(socket, batch.bytes(at))?),
            _ => {
                peers.add(batch.name(at));
                registered = true;
            }
        }
    }
    // Publications wait until all have registered, so a batch that has the one has none of the other.
    if registered {
        batch.send_back(socket, came)?;
    }
    Ok(())
}
