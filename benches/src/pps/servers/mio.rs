//! mio: once the socket is readable it is read until it is empty. mio has no batches of datagrams.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

use super::{Mode, Task, Wait, announce};
use crate::pps::system;
use crate::pps::tally::Tally;
use crate::pps::wire::Kind;

fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
    while let Err(error) = socket.send_to(datagram, to) {
        if error.kind() != ErrorKind::WouldBlock {
            return Err(error);
        }
        // On loopback a send finds no room in next to no case: no state is worth being kept for it.
        system::wait_writable(socket)?;
    }
    Ok(())
}

pub(super) fn serve(task: &Task, mut tally: Tally) -> Result<(), Box<dyn Error>> {
    let socket = system::listener()?;
    socket.set_nonblocking(true)?;
    let mut socket = UdpSocket::from_std(socket);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut socket, Token(0), Interest::READABLE)?;
    announce(socket.local_addr()?);
    let at_most = (task.wait == Wait::Spin).then_some(Duration::ZERO);
    let mut events = Events::with_capacity(8);
    let mut buffer = vec![0; 65_536];
    let mut peers = Vec::new();
    loop {
        match poll.poll(&mut events, at_most) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ if events.is_empty() => continue,
            _ => {}
        }
        loop {
            let (len, from) = match socket.recv_from(&mut buffer) {
                Ok(came) => came,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            let datagram = &buffer[..len];
            tally.saw(datagram);
            if task.mode == Mode::Fanout && Kind::of(datagram) == Kind::Publish {
                for peer in &peers {
                    send(&socket, datagram, *peer)?;
                }
            } else if task.mode != Mode::Sink {
                if task.mode == Mode::Fanout && !peers.contains(&from) {
                    peers.push(from);
                }
                send(&socket, datagram, from)?;
            }
        }
    }
}
