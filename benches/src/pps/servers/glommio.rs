//! glommio. It has no batches of datagrams; it tries each call at once and goes to its rings when that would block.

use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

use glommio::net::UdpSocket;
use glommio::{LocalExecutorBuilder, Placement};

use super::{Mode, Task, Wait, announce};
use crate::pps::system;
use crate::pps::tally::Tally;
use crate::pps::wire::Kind;

pub(super) fn serve(task: &Task, tally: Tally) -> Result<(), Box<dyn Error>> {
    let spin = match task.wait {
        Wait::Block => Duration::ZERO,
        Wait::Spin => Duration::from_secs(3600),
    };
    let executor =
        LocalExecutorBuilder::new(Placement::Fixed(task.core)).spin_before_park(spin).make().map_err(text)?;
    let mode = task.mode;
    executor.run(async move {
        let socket = system::listener()?;
        let address = socket.local_addr()?;
        // SAFETY: the descriptor is a UDP socket's, and nobody else owns it any more.
        let socket = unsafe { UdpSocket::from_raw_fd(socket.into_raw_fd()) };
        announce(address);
        run(&socket, mode, tally).await.map_err(|error| text(error).into())
    })
}

/// Its errors are no errors of the kind that can be boxed here.
fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn run(socket: &UdpSocket, mode: Mode, mut tally: Tally) -> glommio::Result<(), ()> {
    let mut buffer = vec![0; 65_536];
    let mut peers: Vec<SocketAddr> = Vec::new();
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await?;
        let datagram = &buffer[..len];
        tally.saw(datagram);
        if mode == Mode::Fanout && Kind::of(datagram) == Kind::Publish {
            for peer in &peers {
                socket.send_to(datagram, *peer).await?;
            }
        } else if mode != Mode::Sink {
            if mode == Mode::Fanout && !peers.contains(&from) {
                peers.push(from);
            }
            socket.send_to(datagram, from).await?;
        }
    }
}
