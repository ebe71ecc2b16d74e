//! What handlers asked for is carried out: endpoints, groups, sockets of peers' own.

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::contract::driver::Driver;
use crate::sockets::endpoints::Request;
use crate::types::datagram::SocketId;
use crate::types::ids::ShardInfo;

use crate::turn::shard_loop::{Failure, Requested, ShardLoop};

impl<D: Driver, H: Handler, F: Fn(ShardInfo) -> H> ShardLoop<D, H, F> {
    /// Opens the endpoints that were asked for, and joins and leaves groups.
    #[cold]
    pub(super) fn carry_out_requests(&mut self) -> Requested {
        let Requested { mut closes, mut failures } = Requested::default();
        for request in self.stage.io.sockets.endpoints.take_requests() {
            match request {
                Request::Close(socket) => closes.push(socket),
                Request::Open(socket) => {
                    let Some(endpoint) = self.stage.io.sockets.endpoints.config(socket) else { continue };
                    let outcome = self.driver.open(socket, &endpoint);
                    self.stage.io.sockets.endpoints.opened(socket, outcome);
                    failures.extend(outcome.err().map(|errno| Failure::Endpoint(socket, errno)));
                }
                Request::Group => {
                    let done = self.stage.io.sockets.carry_out_group(&mut self.driver);
                    failures.extend((!done).then_some(Failure::Group));
                }
            }
        }
        Requested { closes, failures }
    }

    /// Has handlers hear of what they asked for, once the outbox is carried out.
    #[cold]
    pub(super) fn tell_of_requests(&mut self, requested: Requested) {
        for failure in requested.failures {
            match failure {
                Failure::Endpoint(socket, errno) => self.stage.endpoint_failed(socket, errno),
                Failure::Group => self.stage.group_failed(),
            }
        }
        for socket in requested.closes {
            self.driver.close(socket);
            self.stage.io.sending.lose_waiting(socket);
            self.stage.drop_held(socket);
            self.stage.io.sending.outbox.forsake(socket);
            self.stage.endpoint_closed(socket);
        }
    }

    /// Has the driver close sockets of peers that have none any more. What they were sent has left.
    #[cold]
    pub(super) fn retire(&mut self) {
        for (slot, peer) in self.stage.io.connected.links.take_retired() {
            let socket = SocketId::connected(slot);
            self.driver.retire(socket);
            self.stage.io.sending.backlog.reroute(peer, socket);
        }
    }

    /// Makes sockets for peers that are to have one. With a socket of its own a peer may have room for what was refused.
    #[inline]
    pub(super) fn grant_wishes(&mut self) {
        let Io { connected, routes, sockets, sending, time, .. } = &mut self.stage.io;
        if connected.grant_wishes(routes, &sockets.groups, *time, &mut self.driver) {
            sending.refused.look_again();
        }
    }
}
