//! By quinn-udp, in whatever way it has on a system.

use std::io::{self, IoSliceMut};

use quinn_udp::{RecvMeta, UdpSocketState};

use super::Batch;

/// Receives.
#[derive(Debug, Default)]
pub(crate) struct Receiver;

impl Receiver {
    /// Receives up to one datagram or train into each of `buffers`.
    pub(crate) fn receive(
        &mut self,
        state: &UdpSocketState,
        socket: &mio::net::UdpSocket,
        _told: bool,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<Batch> {
        let count = state.recv(socket.into(), buffers, metas)?;
        Ok(Batch { count, ..Batch::default() })
    }
}
