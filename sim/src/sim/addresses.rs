//! Addresses that a node gets and loses while it runs.

use std::net::IpAddr;

use crate::error::SimError;
use crate::node::{NodeId, addresses_of};
use crate::sim::Sim;

/// Addresses that come and go.
impl Sim {
    /// Gives a node one more address. Its listeners and endpoints for every address have it at once, and those
    /// that are bound to it and had lost it have it again.
    ///
    /// # Errors
    /// [`SimError::InUse`] if another node has a socket there; then nothing has changed.
    ///
    /// ```
    /// # use shardgram_sim::{NodeId, Sim, SimError};
    /// /// The second server takes over when the first one fails.
    /// fn fail_over(sim: &mut Sim, from: &NodeId<()>, to: &NodeId<()>) -> Result<(), SimError> {
    ///     let floating = "10.0.0.100".parse().expect("an address");
    ///     sim.remove_address(from, floating);
    ///     sim.add_address(to, floating)
    /// }
    /// ```
    pub fn add_address<M>(&mut self, node: &NodeId<M>, address: IpAddr) -> Result<(), SimError> {
        let node = &self.nodes[node.index];
        if node.host.borrow().contains(&address) {
            return Ok(());
        }
        self.network.borrow_mut().add_address(node.shards.clone(), address)?;
        node.host.borrow_mut().push(address);
        node.own.host_has(addresses_of(&node.host.borrow()));
        Ok(())
    }

    /// Takes an address from a node; false if it has none such. Nothing arrives there any more, sends from it fail as
    /// [`shardgram_core::PeerError::Unreachable`], and peers of listeners for every address are closed as
    /// [`shardgram_core::CloseReason::AddressGone`].
    pub fn remove_address<M>(&mut self, node: &NodeId<M>, address: IpAddr) -> bool {
        let node = &self.nodes[node.index];
        let mut host = node.host.borrow_mut();
        let before = host.len();
        host.retain(|ip| *ip != address);
        let had = host.len() < before;
        if had {
            self.network.borrow_mut().remove_address(node.shards.clone(), address);
            node.own.host_has(addresses_of(&host));
        }
        had
    }
}
