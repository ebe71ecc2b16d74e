//! What a shard is made of.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::config::Settings;
use crate::connected::promotion::Connected;
use crate::contract::driver::Capabilities;
use crate::dial::dials::Dials;
use crate::dial::resolver::Resolver;
use crate::messages::mailbox::{Mailbox, Postbox};
use crate::messages::post::Post;
use crate::peers::cookie::CookieJar;
use crate::peers::crowd::Crowd;
use crate::peers::own_addresses::{Known, OwnAddresses};
use crate::peers::routes::Routes;
use crate::send::backlog::Backlog;
use crate::send::outbox::{Outbox, TrainLimits};
use crate::send::sending::Sending;
use crate::send::stateless::Answers;
use crate::sockets::endpoints::Endpoints;
use crate::sockets::groups::Groups;
use crate::sockets::via::Sockets;
use crate::stats::Stats;
use crate::time::clock::CoarseClock;
use crate::time::timers::TimerWheel;
use crate::turn::control::Control;
use crate::types::ids::ShardInfo;

/// Keys that keep remote parties from guessing hashes and cookies.
///
/// ```
/// use std::hash::{BuildHasher, Hasher, RandomState};
/// use shardgram_core::shard_loop::Secrets;
/// let draw = || RandomState::new().build_hasher().finish(); // seeded by the system
/// let cookies = (draw(), draw()); // once for all shards
/// let secrets = Secrets { table: (draw(), draw()), cookies };
/// assert_ne!(secrets.table, secrets.cookies);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Secrets {
    /// For the peer table.
    pub table: (u64, u64),
    /// For cookies; the same on every shard of a server.
    pub cookies: (u64, u64),
}

/// What a shard is made of, beside its driver and its handler.
///
/// ```
/// # use std::{sync::Arc, time::Instant};
/// # use shardgram_core::{ShardInfo, mailbox::mailboxes, shard_loop::{Secrets, Setup}};
/// let (postboxes, mut mailboxes) = mailboxes::<()>(1, 1024);
/// let setup = Setup {
///     info: ShardInfo::new(0, 1),
///     listeners: Arc::new(["127.0.0.1:9000".parse().unwrap()]),
///     mailbox: mailboxes.remove(0),
///     postboxes,
///     control: Arc::default(),
///     stats: Arc::default(),
///     secrets: Secrets { table: (1, 2), cookies: (3, 4) }, // of random bits, outside of tests
///     resolver: None,
///     own: Arc::default(),
///     start: Instant::now(),
/// };
/// assert_eq!(setup.postboxes.len(), usize::from(setup.info.shards));
/// ```
pub struct Setup<M> {
    /// Which shard.
    pub info: ShardInfo,
    /// The addresses its listeners got.
    pub listeners: Arc<[SocketAddr]>,
    /// Its own mailbox.
    pub mailbox: Mailbox<M>,
    /// The way to every shard, itself included.
    pub postboxes: Arc<[Postbox<M>]>,
    /// What the owner asks for.
    pub control: Arc<Control>,
    /// Its counters.
    pub stats: Arc<Stats>,
    /// Its keys.
    pub secrets: Secrets,
    /// Who looks names up; `None` if nobody does ([`crate::LookupError::NoResolver`]).
    pub resolver: Option<Arc<dyn Resolver>>,
    /// Where the process listens. The shard's own listeners are there before it is made.
    pub own: Arc<OwnAddresses>,
    /// When the server began: the same on every shard, so that cookies agree.
    pub start: Instant,
}

impl<M> std::fmt::Debug for Setup<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("info", &self.info)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

impl<M> Setup<M> {
    /// What callbacks work with, and what a shard has beside it.
    pub(crate) fn into_parts<H: Handler<Message = M>>(
        self,
        config: &Settings,
        capabilities: Capabilities,
        now: Instant,
    ) -> (Io<H>, Mailbox<M>, Arc<Control>) {
        let Self { info, listeners, mailbox, postboxes, control, stats, secrets, resolver, own, start } =
            self;
        let limits = if config.trains { capabilities.trains } else { TrainLimits::SINGLE };
        let (clock, table) = (CoarseClock::new(start), secrets.table);
        let bell = Arc::clone(mailbox.bell());
        let cookies = CookieJar::new(secrets.cookies, start);
        let io = Io {
            time: clock.at(now),
            clock,
            shard: info.shard,
            capabilities,
            max_datagram: config.max_datagram as usize,
            routes: Routes::new(
                info.shard,
                config.max_peers as usize,
                config.reserved_peers(),
                config.max_paths_per_peer,
                table,
            ),
            crowd: Box::new(Crowd::new(config, table, cookies, Arc::clone(&stats))),
            own: Known::new(own),
            sending: Sending::new(
                Outbox::new(config.outbox_bytes as usize, config.outbox_datagrams as usize, limits),
                Backlog::new(config.send_backlog_bytes as usize, config.send_queue_bytes as usize),
                Answers::new(config.stateless_answers_per_second, table),
                config.amplification_limit,
                Arc::clone(&stats),
            ),
            sockets: Sockets {
                listeners,
                endpoints: Endpoints::new(config.max_endpoints as usize),
                groups: Box::new(Groups::new(&config.memberships, capabilities.copies)),
            },
            connected: Connected::new(
                capabilities.connected,
                config.tier,
                info,
                clock,
                now,
                Arc::clone(&stats),
            ),
            dials: Dials::new(resolver, bell, config.max_lookups as usize, now, Arc::clone(&stats)),
            timers: TimerWheel::new(config.max_timers as usize, now),
            post: Post::new(info, postboxes, Arc::clone(&stats)),
            closing: Vec::new(),
            ending: false,
            stats,
        };
        (io, mailbox, control)
    }
}
