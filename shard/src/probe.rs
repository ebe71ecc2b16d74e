//! Whether io_uring can be had here, found out by using it.
//!
//! The kernel's own probe lists operations, not flags, and says nothing of what a sandbox refuses. So a
//! datagram is sent and received over loopback in the very way the driver does it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use shardgram_core::datagram::{Path, SocketId};
use shardgram_sys::cmsg::Reports;

use crate::buf_ring::BufRing;
use crate::engine::Engine;
use crate::op::{Destination, Sender, Target};
use crate::prepare::{Prepared, Size};
use crate::recv::Layout;
pub use crate::refusal::Refusal;
use crate::ring::Ring;
use crate::user_data::{Kind, UserData};

const PAYLOAD: &[u8] = b"shardgram self-test";
const PATIENCE: Duration = Duration::from_secs(1);

/// What [`probe()`] found beside that io_uring can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probed {
    /// Whether a socket that is taken out of the table of fixed files is let go. Before Linux 6.13 it is held
    /// until every request with a fixed file that was submitted earlier has ended, and the receive of a
    /// listener never does.
    pub fixed_files: bool,
}

/// Sends a datagram to oneself through a ring, with everything the driver relies on: fixed files, a
/// multishot `recvmsg` with provided buffers, a send with a destination and no completion.
///
/// It runs on a thread of its own: the end of a ring is worked off by the thread that used it, and that
/// would interrupt blocking system calls of the caller's (EINTR) some time later.
///
/// # Errors
/// The first step that failed.
pub fn probe() -> Result<Probed, Refusal> {
    let thread = std::thread::Builder::new().name("shardgram-probe".to_owned()).spawn(try_out);
    let thread = thread.map_err(|e| Refusal::new("probe_thread", e))?;
    let panicked = |_| Err(Refusal::new("self_test", io::Error::other("it panicked")));
    thread.join().unwrap_or_else(panicked)
}

fn try_out() -> Result<Probed, Refusal> {
    let at = |step| move |e| Refusal::new(step, e);
    let size =
        Size { entries: 8, completions: 16, buffers: 8, spare: 0, reports: Reports::default(), payload: 64 };
    let prepared = Prepared::alone(size).map_err(|f| Refusal::new(f.step, f.error))?;
    let mut engine = prepared.enable().map_err(at("enable_rings"))?;
    engine.ring.register_files(2).map_err(at("fixed_files"))?;
    let Some((socket, address)) = loopback() else {
        // No loopback to try it on; what could be set up is all that can be known.
        return Ok(Probed { fixed_files: false });
    };
    let Engine { ring, buffers, operands } = &mut engine;
    ring.set_file(0, socket.as_raw_fd()).map_err(at("fixed_files"))?;
    let target = Target::Fixed(0);
    let name = UserData::receive(0, 0);
    let armed = operands.push_receive(ring, target, name, false, false);
    armed.map_err(|full| at("multishot_recvmsg")(full.into()))?;
    let path = Path { local: address, remote: address, socket: SocketId::listener(0) };
    let to = Destination { target, path: &path, kind: Sender::Unconnected, class: None };
    // SAFETY: the payload is a constant, and the operand is not used again.
    let queued = unsafe { operands.push_datagram(ring, to, PAYLOAD, UserData::send(0, 0)) };
    queued.map_err(|full| at("send")(full.into()))?;
    await_datagram(ring, buffers, operands.layout(false), address)?;
    // The receive is still armed.
    Ok(Probed { fixed_files: lets_go(ring).map_err(at("fixed_files"))? })
}

/// Whether the port of a socket that was a fixed file is free once it is none.
fn lets_go(ring: &Ring) -> io::Result<bool> {
    let Some((socket, address)) = loopback() else { return Ok(false) };
    ring.set_file(1, socket.as_raw_fd())?;
    ring.set_file(1, -1)?;
    drop(socket);
    Ok(UdpSocket::bind(address).is_ok())
}

/// A loopback socket that can reach itself by ordinary means.
fn loopback() -> Option<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let address = socket.local_addr().ok()?;
    socket.send_to(&[], address).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.recv_from(&mut []).ok()?;
    socket.set_read_timeout(None).ok()?;
    Some((socket, address))
}

fn await_datagram(
    ring: &mut Ring,
    buffers: &mut BufRing,
    layout: Layout,
    from: SocketAddr,
) -> Result<(), Refusal> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        ring.submit_and_wait(Some(PATIENCE)).map_err(|e| Refusal::new("io_uring_enter", e))?;
        let done: Vec<_> = ring.completions().map(|c| (c.user_data(), c.result(), c.flags())).collect();
        for (data, result, flags) in done {
            let kind = UserData::from_bits(data).map(|d| d.kind);
            if result < 0 {
                let step = if kind == Some(Kind::Send) { "send" } else { "multishot_recvmsg" };
                return Err(Refusal::new(step, io::Error::from_raw_os_error(-result)));
            }
            let taken = io_uring::cqueue::buffer_select(flags).filter(|id| buffers.take(*id));
            let Some(id) = taken else { continue };
            let bytes = buffers.bytes(id, result as usize);
            let received = crate::recv::parse(bytes, layout);
            if received.is_some_and(|r| r.remote == from && &bytes[r.payload] == PAYLOAD) {
                return Ok(());
            }
        }
    }
    Err(Refusal::new("self_test", io::Error::from(io::ErrorKind::TimedOut)))
}
