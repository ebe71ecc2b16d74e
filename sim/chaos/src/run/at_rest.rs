//! What has to hold when all is quiet.

use std::time::{Duration, Instant};

use shardgram_core::Snapshot;
use shardgram_core::shard_loop::Ending;
use shardgram_sim::NodeId;

use crate::payload;
use crate::run::Stage;
use crate::world::{NodeModel, Note, PeerState};

impl Stage {
    pub(super) fn quiet(&mut self) -> Result<(), String> {
        let (counts, now) = (self.sim.counts(), self.sim.now());
        let mut total = Snapshot::default();
        for id in &self.nodes {
            total.add(&self.sim.stats(id));
        }
        let model = self.world.borrow();
        let gave_up = self.nodes.iter().any(|id| self.gave_up(id));
        let waiting =
            counts.delivered as i64 - (counts.discarded + self.raw_received + total.received) as i64;
        let mut wrong = Vec::new();
        let mut want = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        want(counts.in_flight == 0, format!("{} datagrams are on their way", counts.in_flight));
        want(waiting == 0, format!("{waiting} datagrams arrived and are not handled"));
        let sent = self.raw_sent + self.flooded() + total.sent();
        // Of sends that failed in its last turn one that was killed was not told.
        let killed = model.nodes.iter().any(|node| node.killed);
        let all_left = counts.sent == sent || (killed && counts.sent < sent);
        want(gave_up || all_left, format!("{} datagrams left, and {sent} were sent", counts.sent));
        let (dropped, full) = (total.kernel_dropped, counts.overflowed);
        // While a shard takes its last turn something more may find no room.
        let some_ended = model.nodes.iter().flat_map(|node| &node.shards).any(|shard| shard.ended);
        let told = if some_ended { dropped <= full } else { dropped == full };
        want(gave_up || told, format!("{dropped} datagrams found no room, and {full} did"));
        for (index, (id, node)) in self.nodes.iter().zip(&model.nodes).enumerate() {
            let out = self.sim.buffers_out(id);
            want(out == 0, format!("{out} receive buffers of node {index} are still out"));
            self.quiet_node((index, id), node, now, &mut want);
        }
        self.quiet_floods(&model, &mut want);
        let translated = !self.nats.is_empty();
        want(
            translated || counts.filtered == 0,
            format!("{} datagrams were kept out by nobody", counts.filtered),
        );
        // What nobody listens for takes nothing from others: most of it was sent to groups.
        let undisturbed =
            self.scenario.lossless && !gave_up && total.send_failed() + counts.lost + counts.overflowed == 0;
        if undisturbed {
            let unheard = model.unheard(|node| self.hears_all(node, &model.nodes[node]));
            want(unheard.is_none(), unheard.unwrap_or_default());
            let missing = model.ledger.missing(|to| self.scenario.clients.contains(&to));
            want(missing.is_none(), missing.unwrap_or_default());
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("when all was quiet: {}", wrong.join("; "))) }
    }

    /// Whether everything that came to a node was handled, and can be told from others.
    fn hears_all(&self, index: usize, node: &NodeModel) -> bool {
        let stats = self.sim.stats(&self.nodes[index]);
        let dropped = stats.dropped_forward_full + stats.dropped_closed + stats.dropped_panicked;
        let runs = node.shards.iter().all(|shard| !shard.ended && shard.panics == 0);
        runs && dropped == 0 && node.limits.datagram >= payload::NUMBER
    }

    fn quiet_node(
        &self,
        (index, id): (usize, &NodeId<Note>),
        node: &NodeModel,
        now: Instant,
        want: &mut impl FnMut(bool, String),
    ) {
        let stats = self.sim.stats(id);
        let all_run = node.shards.iter().all(|shard| !shard.ended);
        if all_run {
            let (out, into) = (stats.forwarded_out, stats.forwarded_in);
            want(out == into, format!("node {index} forwarded {out} datagrams, and {into} came"));
            let full = stats.dropped_forward_full;
            let nowhere: u64 = node.shards.iter().map(|shard| shard.nowhere).sum();
            // Some had a peer by then, which `accept` had opened itself.
            want(full <= nowhere, format!("node {index}: {full} not forwarded, and {nowhere} may be"));
            want(stats.queued == stats.submitted, format!("node {index} has something left to send"));
        }
        let foreign = stats.dropped_foreign + stats.dropped_closed;
        let any = node.opened_endpoints || foreign == 0;
        want(any, format!("node {index} has no endpoints, and dropped {foreign} datagrams that came to one"));
        let zero = stats.dropped_port_zero;
        want(zero <= self.port_zero * 2, format!("node {index} dropped {zero} datagrams of port 0"));
        let panics: u64 = node.shards.iter().map(|shard| shard.panics).sum();
        let dropped = stats.dropped_panicked;
        want(
            panics > 0 || dropped == 0,
            format!("{dropped} datagrams were dropped by panics on node {index}"),
        );
        for ((from, to), mail) in &node.mail {
            let (count, next) = (mail.len(), mail.front());
            want(
                count == 0,
                format!("{count} messages from {from:?} to {to} of node {index} wait: {next:?}"),
            );
        }
        for (number, shard) in node.shards.iter().enumerate().filter(|(_, shard)| !shard.ended) {
            let late = shard.timers.iter().find(|(_, timer)| timer.at + Duration::from_millis(5) < now);
            want(late.is_none(), format!("a timer of shard {number} of node {index} is late: {late:?}"));
        }
        let left = node.peers.iter().find(|(_, peer)| all_run && node.is_left_behind(peer));
        want(left.is_none(), format!("a peer of node {index} has an address that is gone: {left:?}"));
        let Some(timeout) = node.limits.idle else { return };
        let running = |shard: u16| !node.shards[usize::from(shard)].ended;
        let too_long = timeout + timeout / 4 + Duration::from_millis(5);
        let forgotten = node.peers.iter().find(|(id, peer)| {
            let open = peer.state == PeerState::Open && running(id.shard());
            open && now.saturating_duration_since(peer.last_seen) > too_long
        });
        want(forgotten.is_none(), format!("a peer of node {index} is idle and open: {forgotten:?}"));
    }

    fn gave_up(&self, id: &NodeId<Note>) -> bool {
        let shards = self.sim.ended(id).is_some();
        let endings = (0..u16::MAX).map_while(|shard| {
            let ended = self.sim.shard_ended(id, shard);
            (ended.is_some() || !shards).then_some(ended).filter(|_| shard < 64)
        });
        endings.flatten().any(|ending| matches!(ending, Ending::TooManyRestarts { .. } | Ending::Failed(_)))
    }
}
