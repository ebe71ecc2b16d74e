//! How sockets of shards come and go.

use std::net::{IpAddr, SocketAddr};

use crate::bindings::{BindFault, Place};
use crate::network::Network;
use crate::pipe::SendBuffer;
use crate::schedule::Ringer;
use crate::socket::{Inbox, Owner, Socket};

impl Network {
    /// A place for a shard, and the way to wake it.
    pub(crate) fn add_shard(&mut self, trains: bool) -> (u32, Ringer) {
        self.inboxes.push(Inbox { trains, ..Inbox::default() });
        (self.inboxes.len() as u32 - 1, self.schedule.add())
    }

    /// Binds sockets to one address, one for each of the `owners`, and says which port it is.
    pub(crate) fn bind(
        &mut self,
        bind: SocketAddr,
        own: &[IpAddr],
        bytes: (u64, u64),
        owners: impl Iterator<Item = Owner>,
    ) -> Result<(u16, Vec<u32>), BindFault> {
        let place = self.bindings.place(bind, own)?;
        let sockets: Vec<u32> = owners.map(|o| self.add_socket(o, place.clone(), bytes)).collect();
        self.bindings.bind(&place, &sockets);
        Ok((place.port, sockets))
    }

    /// A socket with receive and send buffers of so many bytes.
    pub(super) fn add_socket(&mut self, owner: Owner, place: Place, bytes: (u64, u64)) -> u32 {
        let (limit_bytes, send_limit_bytes) = bytes;
        let send_buffer = SendBuffer::default();
        let socket = Socket { owner, place, charged_bytes: 0, limit_bytes, send_buffer, send_limit_bytes };
        match self.free_sockets.pop() {
            Some(at) => {
                self.sockets[at as usize] = socket;
                at
            }
            None => {
                self.sockets.push(socket);
                self.sockets.len() as u32 - 1
            }
        }
    }

    /// Closes a shard's socket. What waits in it is discarded.
    pub(crate) fn close(&mut self, at: u32) {
        let socket = &mut self.sockets[at as usize];
        let Owner::Shard { shard, .. } = std::mem::replace(&mut socket.owner, Owner::Closed) else { return };
        self.bindings.unbind(&socket.place, at);
        self.groups.forget(at);
        let waiting = std::mem::take(&mut self.inboxes[shard as usize].waiting);
        let (discarded, rest): (Vec<u32>, Vec<u32>) =
            waiting.into_iter().partition(|flight| self.flights.get(*flight).socket == at);
        self.inboxes[shard as usize].waiting = rest.into();
        for flight in discarded {
            self.counts.discarded += self.flights.get(flight).datagrams();
            self.one_less_held(shard, flight);
            self.flights.free(flight);
        }
        self.free_sockets.push(at);
    }
}
