//! Peers that handlers open, and their endpoints.

use std::net::{IpAddr, SocketAddr};

use shardgram_core::flow::flow_shard;
use shardgram_core::{Endpoint, OpenError, PeerId, Via};

use crate::actor::{Actor, Ours};
use crate::groups::PORTS;
use crate::world::{EndpointModel, Pending, Tag};

impl<H: Ours> Actor<'_, '_, H> {
    fn open(&mut self, via: Via, remote: SocketAddr) -> Result<PeerId, OpenError> {
        let tag = Tag(self.model.next_serial());
        let result = self.cx.open(via, remote, tag);
        let name = match result {
            Ok(_) => "Ok",
            Err(OpenError::TableFull) => "TableFull",
            Err(OpenError::InUse(_)) => "InUse",
            Err(OpenError::NoSuchEndpoint) => "NoSuchEndpoint",
            Err(OpenError::NoSuchListener(_)) => "NoSuchListener",
            Err(OpenError::PortZero) => "PortZero",
            Err(OpenError::NotHere { .. }) => "NotHere",
            Err(OpenError::FamilyMismatch) => "FamilyMismatch",
            Err(OpenError::Ending) => "Ending",
            Err(OpenError::OwnAddress) => "OwnAddress",
            Err(_) => "other",
        };
        self.model.reached.note("open", name);
        match result {
            Ok(peer) => match self.cx.io.path(peer) {
                Some(path) => self.opened(peer, Pending { path, tag, allowance: Default::default() }, true),
                None => self.model.fail(|| format!("{peer} was opened and has no path")),
            },
            Err(OpenError::InUse(peer)) => {
                let here = self.is_here(peer);
                self.model.expect(here, || format!("a path belongs to {peer}, which is not open"));
            }
            Err(OpenError::OwnAddress) => {
                let listeners = self.cx.io.listeners();
                let own = self.model.nodes[self.place.0].listens_at(listeners, remote);
                self.model.expect(own, || format!("nobody of node {} listens at {remote}", self.place.0));
            }
            Err(OpenError::NotHere { shard }) => {
                let owner = flow_shard(remote, self.cx.io.shards());
                let right = owner == shard && owner != self.place.1;
                self.model.expect(right, || format!("{remote} is said to belong to shard {shard}"));
            }
            Err(_) => {}
        }
        result
    }

    pub(crate) fn open_endpoint(&mut self) {
        let node = &self.model.nodes[self.place.0];
        let host = node.host.clone();
        let Some(ip) = self.dice.pick(&host).copied() else { return };
        let any: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let bind = match self.dice.below(6) {
            0 | 1 => SocketAddr::new(ip, 0),
            2 => SocketAddr::new(ip, 9_000 + self.dice.below(3) as u16),
            3 => SocketAddr::new([10, 77, 7, 7].into(), 0), // nobody's
            4 => SocketAddr::new(any, PORTS[1]),            // what is sent to groups comes there
            _ => SocketAddr::new(any, 0),
        };
        let endpoint = Endpoint::bound(bind).any_source(self.dice.percent(50));
        let result = self.cx.io.endpoint(endpoint);
        self.model.reached.note("endpoint", if result.is_ok() { "Ok" } else { "Full" });
        let node = &mut self.model.nodes[self.place.0];
        let limit = node.limits.endpoints;
        let shard = &mut node.shards[usize::from(self.place.1)];
        let open = shard.endpoints.iter().filter(|e| !e.closing).count();
        let (all, dialed) = (shard.endpoints.len(), node.dialed || shard.forgot);
        match result {
            Ok(id) => {
                node.opened_endpoints = true;
                shard.endpoints.push(EndpointModel { id, bind, port: 0, closing: false });
                self.model
                    .expect(open < limit, || format!("endpoint {open} was opened where {limit} may be"));
            }
            Err(_) => {
                self.model
                    .expect(all >= limit || dialed, || format!("there are {open} endpoints of {limit}"));
            }
        }
    }

    pub(crate) fn open_by_endpoint(&mut self) {
        let endpoints = self.model.shard(self.place).endpoints.clone();
        let Some(endpoint) = self.dice.pick(&endpoints).copied() else { return };
        if let Some(address) = self.cx.io.endpoint_address(endpoint.id)
            && address.port() != 0
            && self.dice.one_in(2)
            && self.model.targets.len() < 200
        {
            let host = &self.model.nodes[self.place.0].host;
            let ip = host.iter().copied().find(|ip| ip.is_ipv4() == address.is_ipv4());
            let ip = if address.ip().is_unspecified() { ip.unwrap_or(address.ip()) } else { address.ip() };
            self.model.targets.push(SocketAddr::new(ip, address.port()));
        }
        let Some(target) = self.some_target(endpoint.bind.is_ipv4()) else { return };
        let result = self.open(Via::Endpoint(endpoint.id), target);
        let closed = endpoint.closing && result != Err(OpenError::Ending);
        let right = closed == (result == Err(OpenError::NoSuchEndpoint));
        self.model.expect(right, || format!("{endpoint:?} was used: {result:?}"));
        if let Ok(peer) = result {
            self.send(Some(peer));
        }
    }

    pub(super) fn open_by_listener(&mut self) {
        let listeners = self.cx.io.listeners().to_vec();
        let Some(mut local) = self.dice.pick(&listeners).copied() else { return };
        if local.ip().is_unspecified() {
            let host = self.model.nodes[self.place.0].host.clone();
            let own: Vec<_> = host.into_iter().filter(|ip| ip.is_ipv4() == local.is_ipv4()).collect();
            let Some(ip) = self.dice.pick(&own) else { return };
            local.set_ip(*ip);
        }
        // The stranger that is being looked at, too.
        let stranger = self.path.filter(|_| self.dice.one_in(3));
        let (local, remote) = match stranger.map(|path| (path.local, path.remote)) {
            Some(both) => both,
            None => match self.some_target(local.is_ipv4()) {
                Some(target) => (local, target),
                None => return,
            },
        };
        if let Ok(peer) = self.open(Via::Listener(local), remote) {
            self.send(Some(peer));
        }
    }

    pub(super) fn open_wrongly(&mut self) {
        let listeners = self.cx.io.listeners().to_vec();
        let local = self.dice.pick(&listeners).copied();
        let (v4, v6): (SocketAddr, SocketAddr) = (([10, 9, 9, 9], 5).into(), ([0xfd00_u16; 8], 5).into());
        let result = match (self.dice.below(3), local) {
            (0, Some(local)) => {
                let zero = SocketAddr::new(v4.ip(), 0);
                (self.open(Via::Listener(local), zero), Err(OpenError::PortZero))
            }
            (1, Some(local)) if !local.ip().is_unspecified() => {
                let other = if local.is_ipv4() { v6 } else { v4 };
                (self.open(Via::Listener(local), other), Err(OpenError::FamilyMismatch))
            }
            _ => {
                let nobodys = SocketAddr::new([10, 77, 7, 7].into(), 1);
                (self.open(Via::Listener(nobodys), v4), Err(OpenError::NoSuchListener(nobodys)))
            }
        };
        let right = result.0 == result.1 || result.0 == Err(OpenError::Ending);
        self.model.expect(right, || format!("{:?}, not {:?}", result.0, result.1));
    }

    pub(super) fn close_endpoint(&mut self) {
        let count = self.model.shard(self.place).endpoints.len() as u64;
        let chosen = self.dice.below(count) as usize;
        let Some(endpoint) = self.model.shard(self.place).endpoints.get_mut(chosen) else { return };
        let again = std::mem::replace(&mut endpoint.closing, true);
        let id = endpoint.id;
        self.cx.close_endpoint(id);
        let now = self.cx.io.now();
        self.model.nodes[self.place.0].members.close(now, self.place.1, id);
        self.model.reached.note("close_endpoint", if again { "again" } else { "Ok" });
        let address = self.cx.io.endpoint_address(id);
        self.model.expect(address.is_none(), || format!("a closed endpoint has the address {address:?}"));
    }
}
