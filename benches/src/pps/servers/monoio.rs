//! monoio on io_uring. It has no batches of datagrams and no multishot receive; several tasks on one socket let
//! receives and sends of many datagrams go to the kernel together.

use std::cell::RefCell;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;

use monoio::net::udp::UdpSocket;
use monoio::{IoUringDriver, RuntimeBuilder};

use super::{Mode, Task, announce};
use crate::pps::system;
use crate::pps::tally::Tally;
use crate::pps::wire::Kind;

/// Receives in flight, and no more than there are peers. Each datagram wakes all that wait, so more of them cost more
/// when there is little to do.
const TASKS: u32 = 8;

struct Shared {
    socket: UdpSocket,
    tally: RefCell<Tally>,
    peers: RefCell<Vec<SocketAddr>>,
    mode: Mode,
}

pub(super) fn serve(task: &Task, tally: Tally) -> Result<(), Box<dyn Error>> {
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(1024).build()?;
    let (mode, tasks) = (task.mode, task.peers.min(TASKS));
    runtime.block_on(async move {
        let socket = system::listener()?;
        let address = socket.local_addr()?;
        let socket = UdpSocket::from_std(socket)?;
        let shared = Rc::new(Shared { socket, tally: tally.into(), peers: RefCell::default(), mode });
        let tasks: Vec<_> = (0..tasks).map(|_| monoio::spawn(run(Rc::clone(&shared)))).collect();
        announce(address);
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}

async fn run(shared: Rc<Shared>) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(65_536);
    loop {
        let (came, received) = shared.socket.recv_from(buffer).await;
        buffer = received;
        let (len, from) = came?;
        buffer.truncate(len);
        shared.tally.borrow_mut().saw(&buffer);
        if shared.mode == Mode::Fanout && Kind::of(&buffer) == Kind::Publish {
            let peers = shared.peers.borrow().clone();
            for peer in peers {
                let (sent, used) = shared.socket.send_to(buffer, peer).await;
                buffer = used;
                sent?;
            }
        } else if shared.mode != Mode::Sink {
            if shared.mode == Mode::Fanout && !shared.peers.borrow().contains(&from) {
                shared.peers.borrow_mut().push(from);
            }
            let (sent, used) = shared.socket.send_to(buffer, from).await;
            buffer = used;
            sent?;
        }
    }
}
