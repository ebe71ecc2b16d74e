//! The threads that follow the host's addresses, and the channels between them and the shards.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select};
use shardgram_core::mailbox::Bell;
use shardgram_sys::interfaces::{AddressWatch, Waker};
use shardgram_sys::{BindError, ListenerChange, ListenerSocket, WantedAddress};

use super::groups::{Ended, Groups, Tell};
use crate::drivers::Changes;

/// Changes that wait for a shard. While one shard is that far behind, none is told more.
const CHANGES: usize = 64;
/// What shards may have asked for and is not looked at yet. More is not asked for.
const REQUESTS: usize = 64;
/// The least time between two lists, whatever the number of announcements.
const LIST_REST: Duration = Duration::from_millis(20);
/// How long to leave it when addresses cannot be listed or watched.
const FAILURE_REST: Duration = Duration::from_secs(1);
/// How long to wait where there is nothing to wait for.
const FAR: Duration = Duration::from_secs(3600);

/// The threads of one server. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct AddressThreads {
    stop: Option<Sender<()>>,
    waker: Waker,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for AddressThreads {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.waker.wake();
        for thread in self.threads.drain(..) {
            // It ends at once, and has nothing to say.
            let _ = thread.join();
        }
    }
}

/// Starts the threads. The watch begins before the first list is made, so nothing is missed.
pub(super) fn start(groups: Groups, bells: &[Arc<Bell>]) -> io::Result<(Vec<Changes>, AddressThreads)> {
    // Only a socket hook binds a group to an interface that says nothing of its address.
    let mut watch = if groups.have_a_hook() { AddressWatch::of_both() } else { AddressWatch::new() }?;
    let (stop, stopped) = bounded(0);
    let (announce, announced) = bounded(1);
    let (ask, asked) = bounded(REQUESTS);
    let (shards, changes) = bells
        .iter()
        .map(|bell| {
            let (tell, told) = bounded(CHANGES);
            (Shard { tell, bell: Arc::clone(bell) }, (told, ask.clone()))
        })
        .unzip();
    let mut threads = AddressThreads { stop: Some(stop), waker: watch.waker()?, threads: Vec::new() };
    let named = |name: &str| Builder::new().name(name.to_owned());

    let watch_stopped = stopped.clone();
    threads.threads.push(
        named("shardgram-netlink").spawn(move || announce_changes(&mut watch, &announce, &watch_stopped))?,
    );
    let ended = groups.endings();
    let follow = Follow { groups, shards: Shards(shards), stopped, announced, asked, ended };
    threads.threads.push(named("shardgram-addresses").spawn(move || follow.run())?);
    Ok((changes, threads))
}

/// Passes on that something has changed. One that was passed on and not looked at speaks for all.
fn announce_changes(watch: &mut AddressWatch, announce: &Sender<()>, stopped: &Receiver<()>) {
    while stopped.try_recv() != Err(TryRecvError::Disconnected) {
        match watch.wait(None) {
            Ok(true) => drop(announce.try_send(())),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot wait for changes of this host's addresses");
                let _ = stopped.recv_timeout(FAILURE_REST);
            }
        }
    }
}

struct Follow {
    groups: Groups,
    shards: Shards,
    stopped: Receiver<()>,
    announced: Receiver<()>,
    asked: Receiver<WantedAddress>,
    ended: Receiver<Ended>,
}

impl Follow {
    fn run(mut self) {
        // Addresses may have changed between bind and now.
        let mut list_at = Some(Instant::now());
        let mut settle_at = None;
        loop {
            let now = Instant::now();
            if list_at.is_some_and(|time| time <= now) {
                list_at = self.list(now);
                settle_at = Some(now);
            }
            if settle_at.is_some_and(|time| time <= now) {
                settle_at = self.groups.settle(now, &mut self.shards);
            }
            let due = [list_at, settle_at].into_iter().flatten().min();
            let wait = due.map_or(FAR, |due| due.saturating_duration_since(Instant::now()));
            select! {
                recv(self.stopped) -> _ => return,
                recv(self.announced) -> announcement => match announcement {
                    Ok(()) => list_at = Some(list_at.unwrap_or(now + LIST_REST)),
                    // The other thread ends when this one is to end.
                    Err(_) => return,
                },
                recv(self.asked) -> request => match request {
                    Ok(wanted) => self.groups.ask(wanted, Instant::now(), &mut self.shards),
                    // All shards have ended.
                    Err(_) => return,
                },
                recv(self.ended) -> group => if let Ok(group) = group {
                    let now = Instant::now();
                    self.groups.ended(group, now);
                    settle_at = Some(now);
                },
                default(wait) => {}
            }
        }
    }

    /// Lists the addresses anew. Says when to try again if that failed.
    fn list(&mut self, now: Instant) -> Option<Instant> {
        match self.groups.update(now) {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(%error, "cannot list this host's addresses");
                Some(now + FAILURE_REST)
            }
        }
    }
}

struct Shard {
    tell: Sender<ListenerChange>,
    bell: Arc<Bell>,
}

/// The shards, told by channel and bell. Only this sends into the channels, so room that was seen stays.
struct Shards(Vec<Shard>);

impl Shards {
    fn tell(&self, changes: impl IntoIterator<Item = ListenerChange>) {
        for (shard, change) in self.0.iter().zip(changes) {
            // A shard that has ended needs to know nothing any more.
            let _ = shard.tell.try_send(change);
            shard.bell.wake();
        }
    }
}

impl Tell for Shards {
    fn has_room(&self) -> bool {
        self.0.iter().all(|shard| shard.tell.len() < CHANGES)
    }

    fn added(&mut self, sockets: Vec<ListenerSocket>) {
        self.tell(sockets.into_iter().map(ListenerChange::Added));
    }

    fn removed(&mut self, listen: u16, ip: IpAddr, lost: bool) {
        tracing::debug!(%ip, lost, "an address has no listeners of its own any more");
        self.tell(std::iter::repeat_with(|| ListenerChange::Removed { listen, ip, lost }));
    }

    fn refused(&mut self, address: SocketAddr, error: &BindError) {
        tracing::warn!(
            %address, %error,
            "the wildcard's listeners serve an address; listeners of its own need the user the server was bound by"
        );
    }
}
