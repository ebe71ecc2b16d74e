//! compio on io_uring: one multishot receive with the runtime's buffers, and a task for each datagram's send, so that
//! many sends go to the kernel together.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::pin::pin;

use compio::BufResult;
use compio::buf::IoBuf;
use compio::driver::ProactorBuilder;
use compio::driver::op::RecvFromMultiResult;
use compio::net::UdpSocket;
use compio::runtime::Runtime;
use futures_util::StreamExt;

use super::{Mode, Task, announce};
use crate::pps::system;
use crate::pps::tally::Tally;
use crate::pps::wire::Kind;

/// Buffers of the runtime, and room in each for a datagram and the kernel's header and name.
const BUFFERS: NonZero<u16> = NonZero::new(1024).expect("not 0");
const HEADERS: usize = 256;

/// The payload of what came, in the buffer it came in.
struct Payload(RecvFromMultiResult);

impl IoBuf for Payload {
    fn as_init(&self) -> &[u8] {
        self.0.data()
    }
}

pub(super) fn serve(task: &Task, tally: Tally) -> Result<(), Box<dyn Error>> {
    let mut proactor = ProactorBuilder::new();
    proactor.capacity(1024).buffer_pool_size(BUFFERS).buffer_pool_buffer_len(task.size.max(2048) + HEADERS);
    let runtime = Runtime::builder().with_proactor(proactor).build()?;
    let mode = task.mode;
    runtime.block_on(async move {
        let socket = UdpSocket::from_std(system::listener()?)?;
        announce(socket.local_addr()?);
        run(socket, mode, tally).await.map_err(Into::into)
    })
}

async fn run(socket: UdpSocket, mode: Mode, mut tally: Tally) -> io::Result<()> {
    let mut peers: Vec<SocketAddr> = Vec::new();
    loop {
        let mut stream = pin!(socket.recv_from_multi());
        while let Some(came) = stream.next().await {
            let came = match came {
                Ok(came) => came,
                // The buffers ran out: they come back when their sends are over.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => break,
                Err(error) => return Err(error),
            };
            let Some(from) = came.addr().and_then(|addr| addr.as_socket()) else { continue };
            let datagram = Payload(came);
            tally.saw(datagram.as_init());
            if mode == Mode::Fanout && Kind::of(datagram.as_init()) == Kind::Publish {
                publish(&socket, datagram, &peers).await?;
            } else if mode != Mode::Sink {
                if mode == Mode::Fanout && !peers.contains(&from) {
                    peers.push(from);
                }
                let socket = socket.clone();
                compio::runtime::spawn(async move {
                    let BufResult(_, _) = socket.send_to(datagram, from).await; // a refusal shows as loss
                })
                .detach();
            }
        }
    }
}

/// Sends this to all.
async fn publish(socket: &UdpSocket, datagram: Payload, peers: &[SocketAddr]) -> io::Result<()> {
    let payload = std::rc::Rc::<[u8]>::from(datagram.as_init());
    drop(datagram);
    let sends = peers.iter().map(|peer| {
        let (socket, payload) = (socket.clone(), std::rc::Rc::clone(&payload));
        let peer = *peer;
        compio::runtime::spawn(async move { socket.send_to(payload, peer).await.0 })
    });
    for send in sends.collect::<Vec<_>>() {
        send.await.map_err(|_| io::Error::other("a task of compio's was cancelled"))??;
    }
    Ok(())
}
