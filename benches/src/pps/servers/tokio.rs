//! tokio, one thread: once the socket is readable it is read until it is empty. tokio has no batches of datagrams.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::{Mode, Task, announce};
use crate::pps::system;
use crate::pps::tally::Tally;
use crate::pps::wire::Kind;

pub(super) fn serve(task: &Task, tally: Tally) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let socket = system::listener()?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        announce(socket.local_addr()?);
        run(&socket, task.mode, tally).await.map_err(Into::into)
    })
}

async fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
    // Nearly always there is room: then nothing is awaited.
    while let Err(error) = socket.try_send_to(datagram, to) {
        if error.kind() != ErrorKind::WouldBlock {
            return Err(error);
        }
        socket.writable().await?;
    }
    Ok(())
}

async fn run(socket: &UdpSocket, mode: Mode, mut tally: Tally) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    let mut peers = Vec::new();
    loop {
        socket.readable().await?;
        loop {
            let (len, from) = match socket.try_recv_from(&mut buffer) {
                Ok(came) => came,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let datagram = &buffer[..len];
            tally.saw(datagram);
            if mode == Mode::Fanout && Kind::of(datagram) == Kind::Publish {
                for peer in &peers {
                    send(socket, datagram, *peer).await?;
                }
            } else if mode != Mode::Sink {
                if mode == Mode::Fanout && !peers.contains(&from) {
                    peers.push(from);
                }
                send(socket, datagram, from).await?;
            }
        }
    }
}
