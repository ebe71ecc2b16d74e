//! A server or a client: its shards, and what is known of it from outside.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use shardgram_core::config::Hearers;
use shardgram_core::control::Control;
use shardgram_core::datagram::SocketId;
use shardgram_core::driver::Driver;
use shardgram_core::mailbox::{Postbox, mailboxes};
use shardgram_core::outbox::TrainLimits;
use shardgram_core::own_addresses::{HostAddresses, OwnAddresses};
use shardgram_core::shard_loop::{Ending, Secrets, Setup, ShardLoop, Turn};
use shardgram_core::{Config, ConfigError, Full, Handler, Resolver, ShardInfo, Stats};

use crate::bindings::BindFault;
use crate::driver::{Host, Position, SimDriver};
use crate::error::SimError;
use crate::network::Network;
use crate::schedule::Ringer;
use crate::seed::Dice;
use crate::socket::Owner;

/// Names a server or a client of a simulation, and tells its shards messages.
///
/// ```
/// fn pause(node: &shardgram_sim::NodeId<bool>) {
///     let _ = node.tell(0, true);
/// }
/// ```
pub struct NodeId<M> {
    pub(crate) index: usize,
    postboxes: Arc<[Postbox<M>]>,
}

impl<M> Clone for NodeId<M> {
    fn clone(&self) -> Self {
        Self { index: self.index, postboxes: Arc::clone(&self.postboxes) }
    }
}

impl<M> std::fmt::Debug for NodeId<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NodeId").field(&self.index).finish()
    }
}

impl<M> NodeId<M> {
    /// Sends a message to a shard, as a handle of a running server does. It arrives when that shard next
    /// runs. Handlers of other nodes may call this too.
    ///
    /// # Errors
    /// Gives the message back if that mailbox is full, its shard has ended, or there is no such shard.
    pub fn tell(&self, shard: u16, message: M) -> Result<(), Full<M>> {
        match self.postboxes.get(usize::from(shard)) {
            Some(postbox) => postbox.post(message),
            None => Err(Full(message)),
        }
    }
}

/// A shard of any handler.
pub(crate) trait Runner {
    fn turn(&mut self) -> Turn;
    fn buffers_out(&self) -> usize;
}

impl<H: Handler, F: Fn(ShardInfo) -> H> Runner for ShardLoop<SimDriver, H, F> {
    fn turn(&mut self) -> Turn {
        Self::turn(self)
    }

    fn buffers_out(&self) -> usize {
        self.driver().buffers_out()
    }
}

/// What the simulation keeps of a node.
pub(crate) struct Node {
    pub(crate) control: Arc<Control>,
    pub(crate) stats: Vec<Arc<Stats>>,
    pub(crate) listeners: Arc<[SocketAddr]>,
    /// Its shards, by their numbers in the simulation.
    pub(crate) shards: Range<u32>,
    pub(crate) host: Host,
    /// What its shards know of it: a node is a process of its own.
    pub(crate) own: Arc<OwnAddresses>,
    /// How each shard ended.
    pub(crate) endings: Vec<Option<Ending>>,
}

/// A node that is ready to run.
pub(crate) struct Built<M> {
    pub(crate) node: Node,
    pub(crate) runners: Vec<Box<dyn Runner>>,
    pub(crate) postboxes: Arc<[Postbox<M>]>,
}

impl<M> Built<M> {
    pub(crate) fn id(&self, index: usize) -> NodeId<M> {
        NodeId { index, postboxes: Arc::clone(&self.postboxes) }
    }
}

/// What a node is made in.
pub(crate) struct Site<'a> {
    pub(crate) network: &'a Rc<RefCell<Network>>,
    pub(crate) secrets: &'a mut Dice,
    pub(crate) host: Host,
    pub(crate) config: &'a Config,
    pub(crate) trains: TrainLimits,
    pub(crate) resolver: Arc<dyn Resolver>,
    /// Places for its shards, and the way to wake each.
    pub(crate) shards: Range<u32>,
    pub(crate) ringers: Vec<Ringer>,
}

impl Site<'_> {
    /// Binds the listeners and starts a handler on each shard.
    pub(crate) fn build<H, F>(mut self, make: &F) -> Result<Built<H::Message>, SimError>
    where
        H: Handler,
        F: Fn(ShardInfo) -> H + Clone + 'static,
    {
        let (drivers, listeners) = self.listen()?;
        let (postboxes, mailboxes) =
            mailboxes(self.ringers.len() as u16, self.config.settings().mailbox_len as usize);
        for (postbox, ringer) in postboxes.iter().zip(&self.ringers) {
            let ringer = ringer.clone();
            postbox.bell().connect(Box::new(move || ringer.ring()));
        }
        let control = Arc::new(Control::default());
        let own = Arc::new(OwnAddresses::default());
        own.listen(&listeners);
        own.host_has(addresses_of(&self.host.borrow()));
        let start = self.network.borrow().now();
        let count = drivers.len() as u16;
        let cookies = self.keys();
        let mut stats = Vec::new();
        let mut runners: Vec<Box<dyn Runner>> = Vec::new();
        for ((shard, driver), mailbox) in (0..count).zip(drivers).zip(mailboxes) {
            let setup = Setup {
                info: ShardInfo::new(shard, count),
                listeners: Arc::clone(&listeners),
                mailbox,
                postboxes: Arc::clone(&postboxes),
                control: Arc::clone(&control),
                stats: Arc::default(),
                secrets: Secrets { table: self.keys(), cookies },
                resolver: Some(Arc::clone(&self.resolver)),
                own: Arc::clone(&own),
                start,
            };
            stats.push(Arc::clone(&setup.stats));
            let shard_loop = ShardLoop::new(driver, setup, self.config, make.clone())
                .map_err(|_| SimError::Start { shard })?;
            runners.push(Box::new(shard_loop));
        }
        let endings = runners.iter().map(|_| None).collect();
        let node = Node { control, stats, listeners, own, shards: self.shards, host: self.host, endings };
        Ok(Built { node, runners, postboxes })
    }

    /// A driver for each shard, with its listeners. Dropping the drivers closes them again.
    fn listen(&self) -> Result<(Vec<SimDriver>, Arc<[SocketAddr]>), SimError> {
        let (first, shards) = (self.shards.start, self.shards.len() as u32);
        let driver = |shard| {
            let position = Position { shard, first, shards };
            let (network, host) = (Rc::clone(self.network), Rc::clone(&self.host));
            SimDriver::new(network, position, host, self.config, self.trains)
        };
        let mut drivers: Vec<SimDriver> = self.shards.clone().map(driver).collect();
        let mut listeners = Vec::new();
        for (index, &address) in self.config.settings().listen.iter().enumerate() {
            let id = SocketId::listener(index as u16);
            let reports_local = address.ip().is_unspecified();
            let owners = self.shards.clone().map(|shard| Owner::Shard { shard, id, reports_local });
            let settings = self.config.settings();
            let bytes = (settings.receive_socket_bytes.into(), settings.send_socket_bytes.into());
            let bound = self.network.borrow_mut().bind(address, &self.host.borrow(), bytes, owners);
            let (port, sockets) = bound.map_err(|fault| match fault {
                BindFault::InUse => SimError::InUse(address),
                BindFault::NotLocal => SimError::NotLocal(address),
            })?;
            let local = SocketAddr::new(address.ip(), port);
            for (driver, socket) in drivers.iter_mut().zip(sockets) {
                driver.listens(socket, local);
            }
            listeners.push(local);
        }
        self.join_groups(&mut drivers)?;
        Ok((drivers, listeners.into()))
    }

    /// Each group with every wildcard listener of its family, on the shards that are to hear it.
    fn join_groups(&self, drivers: &mut [SimDriver]) -> Result<(), SimError> {
        for membership in &self.config.settings().memberships {
            let hears = |shard: usize| match membership.hearers() {
                Hearers::Shard(one) => shard == usize::from(one),
                Hearers::EveryShard => true,
            };
            let takes = |address: &SocketAddr| {
                address.ip().is_unspecified() && address.is_ipv4() == membership.group().is_ipv4()
            };
            let listen =
                self.config.settings().listen.iter().enumerate().filter(|(_, address)| takes(address));
            for (index, _) in listen {
                for (_, driver) in drivers.iter_mut().enumerate().filter(|(shard, _)| hears(*shard)) {
                    let joined = driver.join(SocketId::listener(index as u16), membership);
                    joined.map_err(|error| SimError::Config(ConfigError::Join(error)))?;
                }
            }
        }
        Ok(())
    }

    fn keys(&mut self) -> (u64, u64) {
        (self.secrets.number(), self.secrets.number())
    }
}

/// The addresses of a node. Networks here have no broadcast address but the limited one.
pub(crate) fn addresses_of(host: &[IpAddr]) -> HostAddresses {
    HostAddresses::new(host.iter().map(|ip| (*ip, 0)))
}
