//! Peers that are known by their names.

use std::net::SocketAddr;
use std::time::Duration;

use shardgram_core::datagram::SocketId;
use shardgram_core::{Dial, DialError, Path};

use crate::actor::{Actor, Ours};
use crate::scenario::NAMES;
use crate::world::{Pending, Tag};

impl<H: Ours> Actor<'_, '_, H> {
    pub(super) fn dial(&mut self) {
        let name = self.dice.pick(&NAMES).copied().unwrap_or("nobody.test");
        let port = self.some_target(true).map_or(7_000, |target| target.port()).max(1);
        let Ok(dial) = Dial::to(name, port) else {
            return self.model.fail(|| format!("{name}:{port} is no host"));
        };
        let time = Duration::from_millis(self.dice.range(1..=30));
        let mut dial = dial.try_for(time).look_up_within(time);
        let endpoints = self.model.shard(self.place).endpoints.clone();
        if self.dice.one_in(3)
            && let Some(endpoint) = self.dice.pick(&endpoints)
        {
            dial = dial.via(endpoint.id);
        }
        let tag = Tag(self.model.next_serial());
        let result = self.cx.dial(dial, tag);
        self.model.reached.note("dial", dial_outcome(&result));
        let Ok(peer) = result else { return };
        let nowhere = SocketAddr::new([0; 4].into(), 0);
        let path = Path { local: nowhere, remote: nowhere, socket: SocketId::endpoint(0, 0) };
        self.opened(peer, Pending { path, tag, allowance: Default::default() }, true);
        let node = &mut self.model.nodes[self.place.0];
        (node.dialed, node.opened_endpoints) = (true, true);
        if let Some(peer) = node.peers.get_mut(&peer) {
            peer.dialed = true;
        }
    }

    pub(super) fn redial(&mut self) {
        let Some(peer) = self.some_open() else { return };
        let result = self.cx.io.redial(peer);
        self.model.reached.note("redial", dial_outcome(&result));
        let dialed = self.model.nodes[self.place.0].peers.get(&peer).is_some_and(|p| p.dialed);
        let right = dialed || result.is_err();
        self.model.expect(right, || format!("{peer} was redialed, and never dialed"));
    }
}

fn dial_outcome<T>(result: &Result<T, DialError>) -> &'static str {
    match result {
        Ok(_) => "Ok",
        Err(DialError::TableFull) => "TableFull",
        Err(DialError::LookupsFull) => "LookupsFull",
        Err(DialError::NoSuchEndpoint) => "NoSuchEndpoint",
        Err(DialError::NotDialed) => "NotDialed",
        Err(DialError::Gone) => "Gone",
        Err(DialError::Ending) => "Ending",
        Err(_) => "other",
    }
}
