//! By recvmmsg(2), with room for all that a socket may report.

use std::io::{self, IoSliceMut};

use quinn_udp::{EcnCodepoint, RecvMeta, UdpSocketState};
use shardgram_sys::Incoming;

use super::Batch;

/// Receives, and has the memory for it.
#[derive(Debug, Default)]
pub(crate) struct Receiver(shardgram_sys::Receiver);

impl Receiver {
    /// Receives up to one datagram or train into each of `buffers`. `told`: a socket that needs packet info.
    pub(crate) fn receive(
        &mut self,
        _: &UdpSocketState,
        socket: &mio::net::UdpSocket,
        told: bool,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<Batch> {
        let mut batch = Batch::default();
        batch.count = self.0.receive(socket, buffers, |at, incoming| {
            let Incoming { len, remote, control, control_cut } = incoming;
            batch.cut |= u64::from(control_cut && control.may_lack(told)) << at;
            let (Some(remote), Some(meta)) = (remote, metas.get_mut(at)) else {
                batch.malformed |= 1 << at;
                return;
            };
            *meta = RecvMeta::default();
            (meta.len, meta.addr) = (len, remote);
            meta.stride = control.segment_size.map_or(len, usize::from);
            meta.ecn = control.ecn.and_then(EcnCodepoint::from_bits);
            meta.dst_ip = control.destination;
            meta.interface_index = (control.interface != 0).then_some(control.interface);
            meta.timestamp = control.time;
        })?;
        Ok(batch)
    }
}
