//! quinn-udp on tokio, the way quinn does it: readiness by tokio, the calls by quinn-udp inside `try_io`.

use std::error::Error;
use std::io::{self, ErrorKind};

use quinn_udp::UdpSockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::quinn_udp::Batch;
use super::{Task, announce};
use crate::pps::system;
use crate::pps::tally::Tally;

pub(super) fn serve(task: &Task, tally: Tally) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let socket = system::listener()?;
    let batch = Batch::new(&socket, task, tally)?; // makes it non-blocking
    runtime.block_on(async {
        let socket = UdpSocket::from_std(socket)?;
        announce(socket.local_addr()?);
        run(&socket, batch).await.map_err(Into::into)
    })
}

async fn run(socket: &UdpSocket, mut batch: Batch) -> io::Result<()> {
    loop {
        socket.readable().await?;
        loop {
            let came = match socket.try_io(Interest::READABLE, || batch.receive(UdpSockRef::from(socket))) {
                Ok(came) => came,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            for at in 0..batch.plan(came) {
                let send = || batch.depart(UdpSockRef::from(socket), at);
                while let Err(error) = socket.try_io(Interest::WRITABLE, send) {
                    if error.kind() != ErrorKind::WouldBlock {
                        return Err(error);
                    }
                    socket.writable().await?;
                }
            }
        }
    }
}
