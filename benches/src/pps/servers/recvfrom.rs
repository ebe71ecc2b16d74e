//! The plainest server: one datagram in, one out.

use std::error::Error;
use std::io::ErrorKind;

use super::{Mode, Task, Wait, announce};
use crate::pps::system;
use crate::pps::tally::Tally;
use crate::pps::wire::Kind;

pub(super) fn serve(task: &Task, mut tally: Tally) -> Result<(), Box<dyn Error>> {
    let socket = system::listener()?;
    socket.set_nonblocking(task.wait == Wait::Spin)?;
    announce(socket.local_addr()?);
    let mut buffer = vec![0; 65_536];
    let mut peers = Vec::new();
    loop {
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok(came) => came,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                std::hint::spin_loop();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let datagram = &buffer[..len];
        tally.saw(datagram);
        let fan_out = task.mode == Mode::Fanout;
        if fan_out && Kind::of(datagram) == Kind::Publish {
            for peer in &peers {
                socket.send_to(datagram, peer)?;
            }
        } else if task.mode != Mode::Sink {
            if fan_out && !peers.contains(&from) {
                peers.push(from);
            }
            socket.send_to(datagram, from)?;
        }
    }
}
