//! The sockets of the flows.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::{Load, Style};
use crate::pps::epoll::Epoll;
use crate::pps::mmsg::{Incoming, Outgoing, TRAIN_STRIDE, train_of};
use crate::pps::servers::Wait;
use crate::pps::system;
use crate::pps::wire::filling;

/// Datagrams of a call.
const BATCH: usize = 64;
/// Longest sleep, so that the clock is looked at.
const SLEEP: Duration = Duration::from_millis(20);

pub(super) struct Link {
    sockets: Vec<UdpSocket>,
    epoll: Epoll,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    style: Style,
    wait: Wait,
}

impl Link {
    /// So many sockets, connected to the server.
    pub(super) fn open(load: &Load, sockets: u32, server: SocketAddr) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut all = Vec::with_capacity(sockets as usize);
        for flow in 0..sockets {
            let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            // A window of a flow, and what its server sends twice.
            system::set_buffers(&socket, 4 << 20)?;
            if load.style == Style::Offload {
                system::take_trains(&socket)?;
            }
            socket.connect(server)?;
            // Only a client of one flow sleeps in its receive.
            socket.set_read_timeout(Some(SLEEP))?;
            epoll.add(&socket, u64::from(flow))?;
            all.push(socket);
        }
        let (messages, stride, batch) = match load.style {
            Style::Plain => (BATCH, (load.size + 64).next_multiple_of(64), BATCH),
            Style::Offload => (BATCH / 2, TRAIN_STRIDE, train_of(load.size)),
        };
        Ok(Self {
            sockets: all,
            epoll,
            incoming: Incoming::new(messages, stride, false, load.style == Style::Offload),
            outgoing: Outgoing::new(batch, load.size, filling),
            style: load.style,
            wait: load.wait,
        })
    }

    /// Takes what has come, at most `most` messages of each flow, into the ledger; `heard` is told of each flow of
    /// which something came.
    pub(super) fn collect(
        &mut self,
        ledger: &mut Ledger,
        most: usize,
        wait: bool,
        mut heard: impl FnMut(usize),
    ) -> io::Result<()> {
        for index in 0..self.ready(wait)? {
            let flow = self.flow(index);
            let came = self.receive(flow, most, wait)?;
            let now = ledger.ns(Instant::now());
            for at in 0..came {
                let bytes = self.incoming.bytes(at);
                if bytes.is_empty() {
                    ledger.arrive(flow, bytes, now); // nobody sent that
                }
                let segment = self.incoming.segment(at).max(1);
                bytes.chunks(segment).for_each(|datagram| ledger.arrive(flow, datagram, now));
            }
            if came > 0 {
                heard(flow);
            }
        }
        Ok(())
    }

    /// Waits until something is readable, or some time has passed; says how many flows are worth a look.
    pub(super) fn ready(&mut self, wait: bool) -> io::Result<usize> {
        if self.sockets.len() == 1 {
            return Ok(1);
        }
        let sleep = if wait && self.wait == Wait::Block { SLEEP } else { Duration::ZERO };
        self.epoll.wait(sleep)
    }

    /// The flow of that index, of those that are worth a look.
    pub(super) fn flow(&self, index: usize) -> usize {
        if self.sockets.len() == 1 { 0 } else { self.epoll.ready(index) as usize }
    }

    /// Receives from a flow's socket, at most a batch; says how many messages came.
    pub(super) fn receive(&mut self, flow: usize, most: usize, wait: bool) -> io::Result<usize> {
        let flags = match self.wait {
            Wait::Block if wait && self.sockets.len() == 1 => libc::MSG_WAITFORONE,
            _ => libc::MSG_DONTWAIT,
        };
        match self.incoming.receive(&self.sockets[flow], most, flags) {
            Err(error) if is_passing(&error) => Ok(0),
            result => result,
        }
    }

    /// Sends the first `count` datagrams of the batch; what is refused is lost, and noticed as such.
    pub(super) fn send(&mut self, flow: usize, count: usize) -> io::Result<()> {
        let result = match self.style {
            Style::Plain => self.outgoing.send(&self.sockets[flow], count).map(drop),
            Style::Offload => self.outgoing.send_train(&self.sockets[flow], count),
        };
        match result {
            Err(error) if is_passing(&error) => Ok(()),
            result => result,
        }
    }
}

/// Whether an error says something of this moment only: nothing there, no room, or that nobody listens any more,
/// which shows as loss.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
        || error.raw_os_error() == Some(libc::ENOBUFS)
}
